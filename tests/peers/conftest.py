"""The other libraries that minidiff is compared with, each in the version that the comparison was written for.

    pip install torch==2.13.0 torchvision==0.28.0 diffusers==0.42.1 denoising-diffusion-pytorch==2.3.4 prdc==0.2

A test whose peer is missing, or another version, is skipped and says so.
"""

import importlib
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import pytest

from minidiff.evaluate.clip import declare_operators

PEERS = {"torch": "2.13.0", "torchvision": "0.28.0", "diffusers": "0.42.1", "denoising-diffusion-pytorch": "2.3.4", "prdc": "0.2"}


def pytest_collection_modifyitems(items):
    for item in items:
        if "peers" in item.path.parts:
            item.add_marker(pytest.mark.peers)


def check_version(name):
    try:
        found = version(name).split("+")[0]                          # 2.13.0+cpu is 2.13.0
    except PackageNotFoundError:
        pytest.skip(f"{name} is not installed: nothing to compare with; pip install {name}=={PEERS[name]}")
    if found != PEERS[name]:
        pytest.skip(f"{name} is {found}, and the comparison is with {PEERS[name]}")


def built_on_torch(name, *others):
    for needed in ("torch", *others, name):
        check_version(needed)
    if find_spec("torchvision") is not None:
        declare_operators()
    return importlib.import_module(name.replace("-", "_"))


@pytest.fixture(scope="session")
def pins():
    return PEERS


@pytest.fixture(scope="session")
def diffusers():
    return built_on_torch("diffusers")


@pytest.fixture(scope="session")
def gaussian_diffusion():
    """denoising-diffusion-pytorch's module of that name"""
    built_on_torch("denoising-diffusion-pytorch", "torchvision")
    return importlib.import_module("denoising_diffusion_pytorch.denoising_diffusion_pytorch")


@pytest.fixture(scope="session")
def compute_prdc():
    check_version("prdc")
    return importlib.import_module("prdc").compute_prdc
