"""Versions that a team registered itself, in the flavours that people use, on a real MLflow over SQLite."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from stationkeeper.registry import AdoptionRules, ArtifactError, ModelTask, Registry, ServedModel, load_scorer, look_at
from stationkeeper.registry.mlflow import _experiment

# What people's own code and MLflow say while a model is logged is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")

ROWS = 300
RULES = AdoptionRules("1", allow_pickle=True)
rng = np.random.default_rng(0)
FRAME = pd.DataFrame({"amount": rng.normal(size=ROWS), "age": rng.normal(40, 10, ROWS)})
MIXED = FRAME.assign(method=rng.choice(["card", "wallet"], ROWS))
LABELS = (FRAME.amount + 0.05 * FRAME.age > 2).astype(int)


def rule() -> Any:
    """Return a model of somebody's own, a rule that answers a share; made here, so that its pickle holds its code."""
    from mlflow.pyfunc import PythonModel

    class Rule(PythonModel):  # type: ignore[misc] # mlflow gives no types here
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return (model_input["amount"] > 0).astype(float) * 0.8 + 0.1

    return Rule()


def naming(width: int) -> Any:
    """Return a model that answers the name of a class, ``width`` times a row."""
    from mlflow.pyfunc import PythonModel

    class Naming(PythonModel):  # type: ignore[misc] # mlflow gives no types here
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            names = np.where(model_input["amount"] > 0, "fraud", "legit")
            return names if width == 1 else np.stack([names] * width, axis=1)

    return Naming()


def shares(columns: list[str] | None) -> Any:
    """Return a model that answers three shares a row, in a frame with the names of their classes or as bare numbers."""
    from mlflow.pyfunc import PythonModel

    class Shares(PythonModel):  # type: ignore[misc] # mlflow gives no types here
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            import pandas as pd

            found = pd.DataFrame([[0.2, 0.3, 0.5]] * len(model_input), columns=columns)
            return found if columns else found.to_numpy()

    return Shares()


@pytest.fixture
def log(registry: Registry) -> Callable[..., str]:
    """Return a function that logs a model as people do and returns its version."""

    def run(flavor: str, model: str, frame: pd.DataFrame = FRAME, *, signature: bool = True, **logged: Any) -> str:
        registry._connection.client("make an experiment")
        import mlflow
        from mlflow.models import infer_signature

        mlflow.set_tracking_uri(registry.settings.tracking_uri)
        experiment = _experiment(registry._connection.client("look"), registry.settings)
        answers = np.array([0.5] * ROWS)
        with mlflow.start_run(experiment_id=experiment):
            importlib.import_module(flavor).log_model(
                name="model",
                registered_model_name=model,
                signature=infer_signature(frame, answers) if signature else None,
                input_example=frame.head(5) if frame is MIXED else None,
                pip_requirements=[],
                **logged,
            )
        found = registry._connection.client("look").search_model_versions(f"name = '{model}'")
        return str(max(int(one.version) for one in found))

    return run


def scorer(registry: Registry, model: str, version: str, directory: Path) -> Any:
    registry.download(model, version, directory)
    return load_scorer(directory)


def test_a_plain_classifier_is_converted_served_and_scores_as_it_did(
    registry: Registry, log: Callable[..., str], tmp_path: Path
):
    fitted = LogisticRegression().fit(FRAME, LABELS)
    version = log("mlflow.sklearn", "plain", sk_model=fitted)
    assert "converted to ONNX: 200 rows answered alike" in look_at(registry, "plain", version, RULES)
    served = ServedModel.load(registry.fetch("plain", version), "plain", version)
    assert served.card.names == ("amount", "age")
    assert served.proven
    found = served.score(pl.from_pandas(FRAME))
    assert found == pytest.approx(fitted.predict_proba(FRAME)[:, 1], abs=1e-5)
    assert look_at(registry, "plain", version, AdoptionRules("1")) == "ONNX, served by any target", (
        "said once, it holds"
    )


def test_a_pipeline_with_categories_and_several_classes(registry: Registry, log: Callable[..., str], tmp_path: Path):
    encode = ColumnTransformer([("m", OneHotEncoder(handle_unknown="ignore"), ["method"])], remainder="passthrough")
    kinds = np.array(["low", "middle", "high"])[np.digitize(FRAME.amount, [-0.5, 0.5])]
    fitted = make_pipeline(encode, GradientBoostingClassifier(n_estimators=10)).fit(MIXED, kinds)
    version = log("mlflow.sklearn", "kinds", MIXED, sk_model=fitted, serialization_format="cloudpickle")
    with pytest.raises(ArtifactError, match=r"is multiclass, retrain\.task of the model is binary"):
        look_at(registry, "kinds", version, AdoptionRules("1", task=ModelTask.BINARY, allow_pickle=True))
    look_at(registry, "kinds", version, RULES)
    card = registry.download("kinds", version, tmp_path / "card")
    assert (card.task, card.classes) == (ModelTask.MULTICLASS, ("high", "low", "middle"))


def test_a_model_of_ones_own_needs_a_word_is_pinned_and_scored_in_a_process_of_its_own(
    registry: Registry, log: Callable[..., str], tmp_path: Path
):
    version = log("mlflow.pyfunc", "rule", python_model=rule())
    with pytest.raises(ArtifactError, match=r"runs code of its author .* say --allow-pickle"):
        look_at(registry, "rule", version, AdoptionRules("1"))
    assert "artifact" not in registry.tags("rule", version), "a refusal writes nothing"
    assert "scored through its pyfunc" in look_at(registry, "rule", version, RULES)
    champion = scorer(registry, "rule", version, tmp_path / "champion")
    assert (champion.card.task, champion.card.positive) == (ModelTask.BINARY, "1")
    asked = pl.DataFrame({"amount": [1.0, -1.0], "unused": ["a", "b"]})
    assert champion.score(asked).tolist() == pytest.approx([0.9, 0.1])
    with pytest.raises(ArtifactError, match="compared with, and served by other targets"):
        ServedModel.load(tmp_path / "champion")
    (tmp_path / "champion" / "mlflow" / "python_model.pkl").write_bytes(b"another")
    with pytest.raises(ArtifactError, match="is not what was adopted"):
        load_scorer(tmp_path / "champion")


@pytest.mark.parametrize(("named", "classes"), [(True, ("high", "low", "middle")), (False, ("0", "1", "2"))])
def test_shares_of_several_classes_are_named_by_their_columns_or_numbered_as_boosters_number_them(
    registry: Registry, log: Callable[..., str], tmp_path: Path, named: bool, classes: tuple[str, ...]
):
    version = log("mlflow.pyfunc", "shares", python_model=shares(list(classes) if named else None))
    rules = AdoptionRules("1", task=ModelTask.MULTICLASS, allow_pickle=True)
    assert f"classes {', '.join(classes)}, scored through" in look_at(registry, "shares", version, rules)
    champion = scorer(registry, "shares", version, tmp_path / "champion")
    assert champion.card.classes == classes
    assert champion.class_scores(pl.DataFrame({"amount": [1.0]})).tolist() == [[0.2, 0.3, 0.5]]


def test_a_model_that_names_the_class_is_scored_by_it(registry: Registry, log: Callable[..., str], tmp_path: Path):
    rules = AdoptionRules("fraud", allow_pickle=True)
    version = log("mlflow.pyfunc", "naming", python_model=naming(1))
    assert "scored through its pyfunc" in look_at(registry, "naming", version, rules)
    champion = scorer(registry, "naming", version, tmp_path / "champion")
    assert champion.card.classes == ("legit", "fraud")
    assert champion.score(pl.DataFrame({"amount": [1.0, -1.0]})).tolist() == [1.0, 0.0]
    with pytest.raises(ArtifactError, match="answers 600 texts to 200 rows; one class a row is expected"):
        look_at(registry, "naming", log("mlflow.pyfunc", "naming", python_model=naming(3)), rules)


def test_what_cannot_be_a_champion_is_refused_with_its_reason(registry: Registry, log: Callable[..., str]):
    fitted = LogisticRegression().fit(FRAME, np.where(LABELS == 1, "fraud", "legit"))
    nameless = log("mlflow.sklearn", "odd", sk_model=fitted, signature=False)
    with pytest.raises(ArtifactError, match=r"has no signature.*infer_signature"):
        look_at(registry, "odd", nameless, RULES)
    with pytest.raises(ArtifactError, match=r"'fraud', 'legit', and positive is '1'"):
        look_at(registry, "odd", log("mlflow.sklearn", "odd", sk_model=fitted), RULES)
    wrong = log("mlflow.sklearn", "odd", FRAME[["amount"]], sk_model=fitted)
    with pytest.raises(ArtifactError, match="cannot be asked: ValueError"):
        look_at(registry, "odd", wrong, RULES)
    with pytest.raises(ArtifactError, match="version 99 of odd"):
        look_at(registry, "odd", "99", RULES)


def test_a_regression_is_one_by_its_answers(registry: Registry, log: Callable[..., str], tmp_path: Path):
    fitted = LinearRegression().fit(FRAME, 100 * FRAME.amount + FRAME.age)
    version = log("mlflow.sklearn", "delay", sk_model=fitted)
    look_at(registry, "delay", version, RULES)
    champion = scorer(registry, "delay", version, tmp_path / "champion")
    assert champion.card.task is ModelTask.REGRESSION
    assert champion.score(pl.from_pandas(FRAME)) == pytest.approx(fitted.predict(FRAME), rel=1e-4, abs=1e-2)
