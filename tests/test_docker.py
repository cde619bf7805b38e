"""What can be said of the image and the compose file without an engine."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from flows.commands import app

DOCKER = Path(__file__).parent.parent / "docker"
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
ONE_SHOT = {"deploy", "tools"}
SECRET = re.compile(r"password|secret|access_key", re.IGNORECASE)


def dockerfile(name="Dockerfile"):
    text = (DOCKER / name).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if re.match("[A-Z]+ ", line)]
    return [line.split(maxsplit=1) for line in lines]


def test_what_a_grid_needs_has_a_service_each():
    wanted = {"database", "store", "server", "cpu", "gpu", "dashboard"}
    assert wanted <= SERVICES.keys()


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - ONE_SHOT))
def test_a_service_that_stays_has_a_health_check_and_comes_back(name):
    assert SERVICES[name]["healthcheck"]["test"]
    assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", SERVICES)
def test_secrets_come_from_the_environment_and_are_asked_for(name):
    for variable, value in (SERVICES[name].get("environment") or {}).items():
        if SECRET.search(variable):
            assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), variable


def test_the_example_of_an_environment_names_secrets_and_holds_none():
    lines = (DOCKER / ".env.example").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if line and line[0] != "#")
    text = (DOCKER / "compose.yaml").read_text()
    asked_for = set(re.findall(r"\$\{(\w+):\?", text))
    assert asked_for <= given.keys()
    assert not any(given[name] for name in asked_for)


def test_what_must_last_is_on_a_volume_that_has_a_name():
    for name in ("database", "store", "server"):
        sources = {volume.split(":")[0] for volume in SERVICES[name]["volumes"]}
        assert sources & COMPOSE["volumes"].keys()


def test_services_wait_for_those_that_there_are():
    for service in SERVICES.values():
        for other, wanted in (service.get("depends_on") or {}).items():
            if wanted["condition"] == "service_completed_successfully":
                assert other in ONE_SHOT
            else:
                assert "healthcheck" in SERVICES[other]


def test_ports_are_open_to_this_machine_alone():
    for service in SERVICES.values():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")


def test_images_have_a_tag_and_the_tag_is_not_the_latest():
    images = {service["image"] for service in SERVICES.values()}
    images |= {
        word for name in ("Dockerfile", "store.Dockerfile")
        for key, word in dockerfile(name) if key == "FROM"
    }  # fmt: skip
    for image in images:
        assert ":" in image
        assert not image.endswith(":latest")


def test_the_image_is_not_run_by_root():
    users = [argument for key, argument in dockerfile() if key == "USER"]
    assert users[-1] not in {"root", "0"}


def test_the_image_installs_what_the_makefile_installs():
    runs = [argument for key, argument in dockerfile() if key == "RUN"]
    assert any("make env" in run for run in runs)
    copied = {
        word for key, argument in dockerfile() if key == "COPY"
        for word in shlex.split(argument)
    }  # fmt: skip
    assert {"Makefile", "pyproject.toml", "constraints.txt"} <= copied


@pytest.mark.parametrize(
    "name", [n for n, s in SERVICES.items() if "mergegrid:" in s["image"]]
)
def test_the_commands_that_services_run_are_there(name):
    service = SERVICES[name]
    command = [*service.get("entrypoint", []), *service["command"]]
    python, *arguments = command
    assert python == "python"
    assert arguments[:2] == ["-m", "flows"]
    shown = CliRunner().invoke(app, [*arguments[2:3], "--help"])
    assert shown.exit_code == 0
    for option in (word for word in arguments if word.startswith("--")):
        assert option in shown.output
