"""What runs in Evidently's own environment: a script that imports nothing of ours; its job is its one argument."""

import json
import sys
import warnings
from typing import Any


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Write the HTML report of a job (reference, current, output, definition) and return Evidently's own numbers."""
    warnings.simplefilter("ignore")
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset, DataSummaryPreset

    definition = DataDefinition(**job["definition"])
    columns = [*job["definition"]["numerical_columns"], *job["definition"]["categorical_columns"]]
    # In the order of the definition: a report lists the columns as the file has them.
    frames = (pd.read_parquet(job[side])[columns] for side in ("current", "reference"))
    current, reference = (Dataset.from_pandas(frame, data_definition=definition) for frame in frames)
    made = Report([DataDriftPreset(), DataSummaryPreset()]).run(current, reference)
    made.save_html(job["output"])
    metrics = [metric for metric in made.dict()["metrics"] if "Drift" in metric["metric_name"]]
    return {"metrics": [{"name": metric["metric_name"], "value": metric["value"]} for metric in metrics]}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1])), default=float))  # noqa: T201 - the answer to the parent
