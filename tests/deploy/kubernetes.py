"""deploy/kubernetes as kustomize renders it, and a volume as the kubelet makes it."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, Final

import yaml

FOLDER: Final = Path(__file__).parents[2] / "deploy" / "kubernetes"
OVERLAYS: Final = sorted(path.name for path in (FOLDER / "overlays").iterdir())
MODE: Final = 0o440
_TIMES: Final = count(1)

Resource = dict[str, Any]


@cache
def rendered(overlay: str) -> tuple[Resource, ...]:
    """Return the resources of an overlay."""
    return kustomize(FOLDER / "overlays" / overlay)


def kustomize(folder: Path) -> tuple[Resource, ...]:
    """Return the resources of a folder with a kustomization."""
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run([str(kubectl), "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def all_of(overlay: str, kind: str) -> list[Resource]:
    """Return the resources of a kind."""
    return [resource for resource in rendered(overlay) if resource["kind"] == kind]


def the(overlay: str, kind: str, name: str | None = None) -> Resource:
    """Return the only resource of a kind, or of that name."""
    [found] = [resource for resource in all_of(overlay, kind) if name in {None, resource["metadata"]["name"]}]
    return found


def pod(overlay: str) -> Resource:
    """Return the template of the pods with a gateway."""
    template: Resource = the(overlay, "Deployment")["spec"]["template"]
    return template


def containers(template: Resource) -> Iterator[Resource]:
    """Give all containers of a pod, in the order in which they are started."""
    yield from template["spec"].get("initContainers", ())
    yield from template["spec"]["containers"]


def gateway(template: Resource) -> Resource:
    """Return the gateway's container."""
    [found] = [container for container in containers(template) if container["name"] == "gateway"]
    return found


def files(overlay: str, secrets: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return what stands in the gateway's volume: the ConfigMap's and, where it is named, the Secret's content."""
    [volume] = [volume for volume in pod(overlay)["spec"]["volumes"] if volume["name"] == "gateway"]
    assert volume["projected"]["defaultMode"] == MODE
    found: dict[str, bytes] = {}
    for source in volume["projected"]["sources"]:
        if "secret" in source:
            found |= secrets
        else:
            texts = the(overlay, "ConfigMap", source["configMap"]["name"])["data"]
            found |= {name: text.encode() for name, text in texts.items()}
    return found


def lay_out(folder: Path, content: Mapping[str, bytes]) -> None:
    """Write a volume as the kubelet's atomic writer does: a new folder, to which the link ..data is switched, and links by way of it."""
    folder.mkdir(exist_ok=True)
    data = folder / "..data"
    former = data.readlink() if data.is_symlink() else None
    new = folder / f"..2026_{next(_TIMES)}"
    new.mkdir()
    for name, text in content.items():
        (new / name).write_bytes(text)
        (new / name).chmod(MODE)
    (folder / "..data_tmp").symlink_to(new.name)
    (folder / "..data_tmp").rename(data)
    for name in content:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(Path("..data", name))
    if former is not None:
        for file in (folder / former).iterdir():
            file.unlink()
        (folder / former).rmdir()
