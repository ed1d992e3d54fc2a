"""Build the programs of a real Kubernetes API: ``python -m scripts.kube_apiserver FOLDER`` (``make kube``).

An API server and its store are enough for the tests of deploy/targets/kubernetes, and with helm for those of the chart:
no cluster, container or root. All are built from their Go modules by an installed Go; once, in a quarter of an hour on
two processors.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

VERSION = "1.34.1"
# What this version itself is built with and tested against.
ETCD = "v3.6.4"
# Built by itself, as it asks for libraries of another Kubernetes.
HELM = "helm.sh/helm/v3/cmd/helm@v3.20.2"
PROGRAMS = {"etcd": "go.etcd.io/etcd/server/v3", "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver"}


def build(folder: Path) -> None:
    """Build what is missing into a folder; raises ``CalledProcessError`` where Go says what is wrong."""
    work = folder / "build"
    work.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod -buildvcs=false", "GOWORK": "off"}
    main = f"k8s.io/kubernetes@v{VERSION}"
    (work / "go.mod").write_text("module kube\n\ngo 1.24.0\n", encoding="utf-8")
    command = ["go", "mod", "download", "-json", main]
    found = subprocess.run(command, cwd=work, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    upstream = Path(re.findall(r'"GoMod": "(.*)"', found)[0]).read_text(encoding="utf-8")
    # The release's own parts lie in its repository under staging/, and are published as modules of their own.
    staged = re.findall(r"(k8s\.io/\S+) => \./staging", upstream)
    replaced = "".join(f"replace {part} => {part} v0{VERSION[1:]}\n" for part in staged)
    required = f"require k8s.io/kubernetes v{VERSION}\nrequire go.etcd.io/etcd/server/v3 {ETCD}\n"
    (work / "go.mod").write_text(f"module kube\n\ngo 1.24.0\n\n{required}\n{replaced}", encoding="utf-8")
    # Without it the server calls itself v0.0.0, and clients refuse features by that.
    stamp = f"-s -w -X k8s.io/component-base/version.gitVersion=v{VERSION}"
    for name, package in PROGRAMS.items():
        if not (folder / name).exists():
            print(f"building {name}, which takes minutes the first time", flush=True)
            made = ["go", "build", "-trimpath", "-ldflags", stamp, "-o", str(folder / name), package]
            subprocess.run(made, cwd=work, env=environment, check=True)
    if not (folder / "helm").exists():
        alone = {**environment, "GOBIN": str(folder.resolve())}
        # Without it helm renders for Kubernetes 1.20, which the chart refuses.
        rooms, parts = ("chartutil", "lint/rules"), zip(("Major", "Minor"), VERSION.split("."), strict=False)
        stamps = [f"-X helm.sh/helm/v3/pkg/{room}.k8sVersion{part}={value}" for part, value in parts for room in rooms]
        installed = ["go", "install", "-trimpath", "-ldflags", " ".join(["-s -w", *stamps]), HELM]
        subprocess.run(installed, cwd=work.parent, env=alone, check=True)
    print(f"export STATIONKEEPER_KUBE_BIN={folder.resolve()}")


if __name__ == "__main__":
    build(Path(sys.argv[1]))
