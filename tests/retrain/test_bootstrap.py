from tests.retrain.bank import Bank


def test_the_first_champion_is_registered_with_its_facts(bank: Bank):
    assert bank.registry.champion("bank") == bank.champion.version
    tags = bank.registry.tags("bank", bank.champion.version)
    assert tags["snapshot"] == bank.champion.snapshot
    assert tags["cause"] == "first champion"
    assert len(tags["code"]) == 64
    run = bank.registry._connection.client("look").get_run(bank.champion.run_id)
    assert run.data.params["trainer"] == "logistic-regression"
    assert run.data.metrics["held_out.precision"] > 0
    assert run.info.status == "FINISHED"
    assert bank.champion.result.rows == 8_000
