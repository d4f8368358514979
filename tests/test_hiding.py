from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from nightfit.config import load
from nightfit.hiding import hide

CONFIG = Path("configs/nightfit.toml")
SERVERS = {
    "postgresql": ("postgresql+psycopg://postgres@127.0.0.1/postgres", "CREATE ROLE {0} LOGIN PASSWORD '{1}'", "ROLE"),
    "mariadb": ("mysql+pymysql://root@127.0.0.1:3306/", "CREATE USER {0} IDENTIFIED BY '{1}'", "USER"),
}
SECRET = "gehe1m"  # noqa: S105


@pytest.mark.parametrize(
    ("url", "hidden", "secrets"),
    [
        ("postgresql://me:s3c/ret@db/shop", "postgresql://me:${S_PASSWORD}@db/shop", ["s3c/ret"]),
        ("mysql+pymysql://me:a%40b@db:1/s", "mysql+pymysql://me:${S_PASSWORD}@db:1/s", ["a%40b"]),
        ("mysql://db/s?user=me&password=x&ssl_key=/k", "mysql://db/s?user=me&password=${S_PASSWORD}&ssl_key=/k", ["x"]),
        (
            "trino://me:a@db/s?access_token=b&password=c",
            "trino://me:${S_PASSWORD}@db/s?access_token=${S_ACCESS_TOKEN}&password=${S_2_PASSWORD}",
            ["a", "b", "c"],
        ),
        ("mssql+pyodbc:///?odbc_connect=PWD%3Dx", "mssql+pyodbc:///?odbc_connect=${S_ODBC_CONNECT}", ["PWD%3Dx"]),
        ("postgresql://me:${MY_OWN}@db/shop", "postgresql://me:${MY_OWN}@db/shop", []),
        ("postgresql://me@db/shop", "postgresql://me@db/shop", []),
        ("sqlite:///a:b@c.db", "sqlite:///a:b@c.db", []),
        ("exports/a:b@c?token=1.csv", "exports/a:b@c?token=1.csv", []),
    ],
)
def test_secrets_of_a_url_become_names(url: str, hidden: str, secrets: list[str]) -> None:
    """Passwords and options that are secrets, and nothing else; what is a name already stays."""
    done = hide(url, "s")
    assert (done.url, list(done.secrets.values())) == (hidden, secrets)


@pytest.mark.parametrize(
    ("owner", "name"), [("2026-orders", "DB_2026_ORDERS_PASSWORD"), ("größe.x", "GR_E_X_PASSWORD")]
)
def test_names_can_be_exported(owner: str, name: str) -> None:
    """Whatever the table is called, a shell takes the name."""
    assert list(hide("mysql://me:x@db/s", owner).secrets) == [name]


@pytest.fixture(params=SERVERS)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give the url, with the password of a user of its own in it, of a real server's database with a table of rows."""
    server, create, kind = SERVERS[request.param]
    name, grant = f"nightfit_{uuid.uuid4().hex[:12]}", "GRANT ALL ON {0} TO {1}"
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        run = connection.exec_driver_sql
        run(create.format(name, SECRET))
        run(f"CREATE DATABASE {name}")
        made = sa.make_url(server).set(database=name)
        with sa.create_engine(made, poolclass=sa.NullPool).begin() as there:
            there.exec_driver_sql("CREATE TABLE orders (id int PRIMARY KEY, price float, bought varchar(3))")
            rows = ", ".join(f"({i}, {i % 7}, '{'yes' if i % 7 > 3 else 'no'}')" for i in range(60))
            there.exec_driver_sql(f"INSERT INTO orders VALUES {rows}")  # noqa: S608 - our own
            there.exec_driver_sql(grant.format("orders", name))
        yield made.set(username=name, password=SECRET).render_as_string(hide_password=False)
        run(f"DROP DATABASE {name}")
        run(f"DROP {kind} {name}")
    engine.dispose()


def test_init_looks_with_the_password_and_writes_it_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nightfit: Callable[..., Any], url: str
) -> None:
    """The rows are read, and the config, what is printed and the JSON have a name, which trains once it is set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ORDERS_PASSWORD", raising=False)
    guess = json.loads(nightfit("init", url, "--target", "bought", "--json").out)
    assert (guess["n_rows"], guess["data"], guess["environment"]) == (
        60, url.replace(SECRET, "${ORDERS_PASSWORD}"), ["ORDERS_PASSWORD"],
    )  # fmt: skip
    done = nightfit("init", url, "--target", "bought", "--force")
    assert "export ORDERS_PASSWORD='...'" in done.out
    assert SECRET not in done.out + done.err + CONFIG.read_text()
    assert load(CONFIG).sources[0].url == guess["data"]
    done = nightfit("train", "--model", "linear")
    assert (done.code, "needs ${ORDERS_PASSWORD} from the environment" in done.err) == (78, True)
    monkeypatch.setenv("ORDERS_PASSWORD", SECRET)
    assert nightfit("train", "--model", "linear").code == 0
    done = nightfit("init", guess["data"], "--target", "bought", "--force", "--json")
    assert json.loads(done.out)["environment"] == []
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert not kept


def test_an_at_sign_in_a_password_is_said_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nightfit: Callable[..., Any]
) -> None:
    """What stands between two @ is the rest of a password: no message has it, nor is it taken for a host."""
    monkeypatch.chdir(tmp_path)
    done = nightfit("init", "postgresql+psycopg://me:one@two@127.0.0.1:1/db", "--table", "t")
    assert (done.code, "write @ : / ? as %40" in done.err) == (78, True)
    assert "two" not in done.err
