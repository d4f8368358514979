from __future__ import annotations

import csv
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shop import ROW, Client, rows, serving

NAMES, VALUES = list(ROW), list(ROW.values())


def offline(folder: Path, text: str, model: str, *options: str) -> list[dict[str, str]]:
    """Predict CSV by the command line."""
    (folder / "ask.csv").write_text(text)
    command: list[str | Path] = ["predict", folder / "ask.csv", "--config", folder / "nightfit.toml", "--model", model]
    command += options
    done = subprocess.run([sys.executable, "-m", "nightfit", *command], capture_output=True, text=True, check=True)
    return list(csv.DictReader(io.StringIO(done.stdout)))


@pytest.mark.parametrize("model", ["deep", "linear"])
def test_all_forms_of_a_row_have_the_answer_of_predict(server: Client, copy: Path, model: str) -> None:
    """A list, a list of lists, a record, records, tensors, MLflow's forms and CSV are answered as `predict` answers."""
    text = "price,colour,at,fresh\n0.5,red,2026-01-02 10:00,true\n,mauve,,\n"
    wanted = offline(copy, text, model)
    records: list[dict[str, Any]] = [ROW, {"price": None, "colour": "mauve", "at": None, "fresh": None}]
    lists = [list(record.values()) for record in records]
    both: list[Any] = [lists, records]
    for features in both:
        found = server.post(f"/predict/{model}", {"features": features}).json
        assert found["prediction"] == [row["prediction"] for row in wanted]
        assert found["classes"] == ["no", "yes"]
        for probabilities, row in zip(found["probability"], wanted, strict=True):
            assert probabilities == pytest.approx(
                [float(row["probability_no"]), float(row["probability_yes"])], abs=2e-6
            )
        assert (found["model"], found["model_version"]) == (model, 1)
    either: list[Any] = [VALUES, ROW]
    for features in either:
        assert server.post(f"/predict/{model}", {"features": features}).json["prediction"] == [wanted[0]["prediction"]]
    if model == "deep":  # the default one
        split = {"columns": NAMES[::-1], "data": [row[::-1] for row in lists]}
        columns = {name: [record[name] for record in records] for name in NAMES}
        forms = {"dataframe_split": split, "dataframe_records": records, "instances": lists, "inputs": columns}
        for name, value in forms.items():
            assert server.post("/invocations", {name: value}).json == {"predictions": found["prediction"]}, name
        reply = server.ask("POST", "/invocations", text.encode(), content_type="text/csv; charset=utf-8")
        assert reply.json == {"predictions": found["prediction"]}


def test_the_server_answers_as_the_torch_model(server: Client, copy: Path) -> None:
    """Probabilities are those of the torch model to 1e-5, with missing and extreme values among them."""
    table = list(csv.DictReader(io.StringIO(rows(2_000, 10_000)), fieldnames=["id", *NAMES, "y"]))
    for i, row in enumerate(table):
        if i % 7 == 0:
            row[NAMES[i % 4]] = ""
        if i % 11 == 0:
            row["price"] = f"{(-1) ** i * 10.0 ** (i % 90)}"
    text = io.StringIO()
    writer = csv.DictWriter(text, NAMES, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    wanted = offline(copy, text.getvalue(), "deep", "--device", "cpu")
    data = [row[name] for row in table for name in NAMES]
    tensor = {"name": "rows", "shape": [len(table), 4], "datatype": "BYTES", "data": data}
    found = server.post("/v2/models/deep/infer", {"inputs": [tensor]}).json["outputs"][1]["data"][1::2]
    assert len(found) == len(wanted) == 2_000
    assert found == pytest.approx([float(row["probability_yes"]) for row in wanted], abs=1e-5)


def test_open_inference(server: Client) -> None:
    """Metadata names the tensors, and an inference request built from it has the native answer and its own id.

    MLServer's client writes null for what it leaves out.
    """
    meta = server.ask("GET", "/v2/models/deep").json
    assert (meta["name"], meta["versions"]) == ("deep", ["1"])
    data = dict(zip(NAMES, VALUES, strict=True))
    inputs = [{**tensor, "shape": [1], "data": [data[tensor["name"]]]} for tensor in meta["inputs"]]
    native = server.post("/predict", {"features": VALUES}).json
    for path in ("/v2/models/deep/infer", "/v2/models/deep/versions/1/infer"):
        found = server.post(path, {"id": "7", "inputs": inputs}).json
        assert (found["model_name"], found["model_version"], found["id"]) == ("deep", "1", "7")
        assert [o["name"] for o in found["outputs"]] == ["prediction", "probability"]
        assert found["outputs"][0] == {
            "name": "prediction",
            "shape": [1],
            "datatype": "BYTES",
            "data": native["prediction"],
        }
        assert found["outputs"][1]["shape"] == [1, 2]
        assert found["outputs"][1]["data"] == native["probability"][0]
    found = server.post("/v2/models/deep/infer", {"inputs": inputs, "outputs": [{"name": "probability"}]}).json
    assert [o["name"] for o in found["outputs"]] == ["probability"]
    nothing = {"id": None, "parameters": None}
    bare = [tensor | {"parameters": None} for tensor in inputs]
    outputs = [{"name": "prediction", "parameters": None}]
    found = server.post("/v2/models/deep/infer", nothing | {"inputs": bare, "outputs": outputs}).json
    assert found["outputs"][0]["data"] == native["prediction"]
    texts = [{"name": "x", "shape": [1, 4], "datatype": "BYTES", "data": [["0.5", "red", "2026-01-02 10:00", "true"]]}]
    found = server.post("/v2/models/deep/infer", {"inputs": texts}).json
    assert found["outputs"][1]["data"] == native["probability"][0]


def test_probes_and_metadata(server: Client) -> None:
    """Every probe of the protocols answers."""
    for path in (
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/linear/ready",
        "/ping",
        "/health",
        "/version",
        "/v2",
    ):
        assert server.ask("GET", path).status == 200, path
        reply = server.ask("HEAD", path)
        assert (reply.status, reply.body) == (200, b""), path
    assert server.ask("GET", "/v2").json["name"] == "nightfit"


def test_missing_and_unseen_values_are_legal(server: Client) -> None:
    """Null, the config's texts and numbers for "no value", and categories never seen are answered, as in training."""
    nothing = server.post("/predict", {"features": [None, None, None, None]}).json["probability"]
    for row in (["colour"], [-999, "NA", "", None], [-999.0, " NA ", "NA", None]):
        if len(row) == 4:
            assert server.post("/predict", {"features": row}).json["probability"] == nothing
    a, b = (server.post("/predict", {"features": [0, c, None, None]}).json["probability"] for c in ("mauve", "ochre"))
    assert a == b


def test_large_bodies_are_answered_as_small_ones(server: Client) -> None:
    """A thousand rows, answered on a thread, have each the answer that a row alone has."""
    one = server.post("/predict", {"features": VALUES}).json["probability"][0]
    many = server.post("/predict", {"features": [VALUES] * 1000}).json["probability"]
    assert len(many) == 1000
    assert all(found == pytest.approx(one, abs=2e-6) for found in many)


def test_columns_that_are_no_features_may_come(server: Client) -> None:
    """A record may hold the key and the target, as exports do; they are not read."""
    found = server.post("/predict", {"features": ROW | {"id": 7, "bought": "no"}})
    assert found.json["probability"] == server.post("/predict", {"features": ROW}).json["probability"]


def test_what_was_dropped_since_is_not_read(copy: Path, tmp_path: Path) -> None:
    """A column that the version learned and the config drops by now is missing, and no value of a row."""
    path = copy / "nightfit.toml"
    path.write_text(path.read_text().replace("[schema]", '[schema]\ndrop = ["colour"]'))
    text = "price,colour,at,fresh\n0.5,red,2026-01-02 10:00,true\n0.5,,2026-01-02 10:00,true\n"
    red, none = offline(copy, text, "linear")
    assert red["probability_yes"] == none["probability_yes"]
    with serving(copy, tmp_path / "log") as client:
        short = [ROW["price"], ROW["at"], ROW["fresh"]]
        both: list[Any] = [ROW, short]
        for features in both:
            found = client.post("/predict/linear", {"features": features}).json["probability"][0][1]
            assert found == pytest.approx(float(none["probability_yes"]), abs=2e-6)
        assert client.post("/predict/linear", {"features": VALUES}).status == 422


def test_a_category_that_means_missing_by_now_is_missing(copy: Path, tmp_path: Path) -> None:
    """A word that joins schema.missing after it was learned is answered as null is, as in `predict`."""
    path = copy / "nightfit.toml"
    path.write_text(path.read_text().replace('"NA"', '"NA", "red"'))
    row = offline(copy, "price,colour,at,fresh\n0.5,red,2026-01-02 10:00,true\n", "linear")[0]
    with serving(copy, tmp_path / "log") as client:
        red, none = (
            client.post("/predict/linear", {"features": ROW | {"colour": c}}).json["probability"] for c in ("red", None)
        )
    assert red == none == [pytest.approx([float(row["probability_no"]), float(row["probability_yes"])], abs=2e-6)]


def test_records_may_differ_in_order(server: Client) -> None:
    """Records whose columns stand in another order each, or bring columns that are not read, are answered alike."""
    backwards = dict(reversed(ROW.items()))
    found = server.post("/predict", {"features": [ROW, backwards, {"id": 1} | ROW]}).json["probability"]
    assert found == server.post("/predict", {"features": [ROW] * 3}).json["probability"]


def test_metrics(server: Client) -> None:
    """Requests, predictions and the version in service are counted under the documented names."""
    server.post("/predict", {"features": VALUES})
    text = server.ask("GET", "/metrics").body.decode()
    for name in (
        'nightfit_http_requests_total{method="POST",route="/predict",status="200"}',
        'nightfit_http_request_duration_seconds_bucket{le="0.0005",route="/predict"}',
        "nightfit_http_requests_in_flight 1.0",
        'nightfit_predictions_total{model="deep",model_version="1"}',
        'nightfit_model_info{model="deep",sha256=',
        'nightfit_model_loaded_timestamp_seconds{model="deep"}',
        'nightfit_model_reloads_total{model="deep",result="success"} 1.0',
        "process_resident_memory_bytes",
    ):
        assert name in text, name
