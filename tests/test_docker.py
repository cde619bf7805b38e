"""What can be said of the image and the compose file without an engine."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hatchling import build
from typer.testing import CliRunner

from flows.commands import app
from mergegrid.provenance import COMMIT

REPOSITORY = Path(__file__).parent.parent
DOCKER = REPOSITORY / "docker"
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
ONE_SHOT = {"deploy", "tools"}
SECRET = re.compile(r"password|secret|access_key", re.IGNORECASE)


def dockerfile(name="Dockerfile"):
    text = (DOCKER / name).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if re.match("[A-Z]+ ", line)]
    return [line.split(maxsplit=1) for line in lines]


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
def test_a_compose_file_is_as_its_specification_says(name):
    checker = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
    done = subprocess.run(
        [*checker, "vendor.compose-spec", DOCKER / name],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_what_is_laid_over_the_compose_file_is_in_it():
    over = yaml.safe_load((DOCKER / "compose.gpu.yaml").read_text())
    assert over["services"].keys() <= SERVICES.keys()


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


@pytest.mark.parametrize("name", ["Dockerfile", "store.Dockerfile"])
def test_an_image_is_not_run_by_root(name):
    users = [argument for key, argument in dockerfile(name) if key == "USER"]
    assert users[-1] not in {"root", "0"}


def test_what_git_leaves_out_the_image_leaves_out():
    left_out = (REPOSITORY / ".dockerignore").read_text().splitlines()
    left_out = {line.removeprefix("**/") for line in left_out}
    for line in (REPOSITORY / ".gitignore").read_text().splitlines():
        assert line.strip("/") in left_out
    assert ".git" in left_out


def test_what_is_copied_before_the_code_is_all_that_installing_needs(
    tmp_path, monkeypatch
):
    for key, argument in dockerfile():
        if key == "COPY":
            *sources, target = argument.split()
            for source in sources:
                (tmp_path / target).mkdir(exist_ok=True)
                shutil.copy(REPOSITORY / source, tmp_path / target)
        if "make env" in argument:
            break
    command = argument[argument.index("make env") :].split()
    done = subprocess.run(
        [*command, "--dry-run"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--editable" in done.stdout
    assert "--group" not in done.stdout  # no tools of development
    monkeypatch.chdir(tmp_path)
    build.prepare_metadata_for_build_editable(str(tmp_path))


def test_the_image_is_told_the_commit_after_all_that_takes_long_to_install():
    lines = dockerfile()
    told = lines.index(["ARG", "COMMIT="])
    assert told > max(i for i, (key, _) in enumerate(lines) if key in {"RUN", "COPY"})
    assert ["ENV", f"{COMMIT}=$COMMIT"] in lines[told:]
    for service in SERVICES.values():
        if "mergegrid:" in service["image"]:
            assert service["build"]["args"]["COMMIT"] == "${COMMIT:-}"


@pytest.mark.parametrize(
    "name", [n for n, s in SERVICES.items() if "mergegrid:" in s["image"]]
)
def test_the_commands_that_services_run_are_there(name):
    service = SERVICES[name]
    python, *arguments = [*service.get("entrypoint", []), *service["command"]]
    assert python == "python"
    assert arguments[:2] == ["-m", "flows"]
    # Unknown commands and options are found before help is shown.
    shown = CliRunner().invoke(app, [*arguments[2:], "--help"])
    assert shown.exit_code == 0, shown.output


def test_the_store_does_not_start_without_a_key_and_a_secret(tmp_path):
    python, script, *arguments = SERVICES["store"]["command"]
    assert (python, script) == ("python3", "/store.py")
    arguments = [tmp_path if "/" in word else word for word in arguments]
    arguments = ["1" if "$" in str(word) else word for word in arguments]
    done = subprocess.run(
        [sys.executable, DOCKER / "store.py", *arguments],
        env={"AWS_ACCESS_KEY_ID": "key"},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.endswith("AWS_SECRET_ACCESS_KEY is not set\n")
    assert not any(tmp_path.iterdir())
