import pytest

from stationkeeper.contracts.plugins import PluginError, PluginGroup, load_plugin


def test_an_import_path_is_loaded():
    assert load_plugin(PluginGroup.TRAINERS, "collections:OrderedDict").__name__ == "OrderedDict"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nobody", "install the distribution"),
        ("collections:Nothing", "cannot be imported"),
        ("no_such_module_here:X", "cannot be imported"),
        ("../etc/passwd:X", "install the distribution"),
    ],
)
def test_what_is_not_there_is_named_with_what_to_do(name: str, said: str):
    with pytest.raises(PluginError, match=said):
        load_plugin(PluginGroup.TRAINERS, name)
