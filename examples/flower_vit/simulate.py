"""Two clients of a federation, one round in Flower's simulation: `python simulate.py CASE FOLDER`.

Nothing here is made for an audit but the one mod that keeps what a client sent.
"""

import os
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import LocalDpMod
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from PIL import Image
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torchvision.transforms.functional import normalize, to_tensor

from privbench.frameworks.flower import KeepUpdates, deviation, epsilon

CLIENTS = 2
RATE = 0.01
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
PRIVACY = {
    "dp_1": LocalDpMod(clipping_norm=1.0, sensitivity=1.0, epsilon=1.0, delta=1e-5),
    "dp_10": LocalDpMod(clipping_norm=1.0, sensitivity=1.0, epsilon=10.0, delta=1e-5),
    "dp_mild": LocalDpMod(clipping_norm=1.0, sensitivity=1e-5, epsilon=10.0, delta=1e-5),
}
"""The mod's own noise at two settings; and so small a sensitivity that training survives it."""
CASES = ("sgd", "head", *PRIVACY)
ASSETS = files("privbench.assets")


def network() -> VisionTransformer:
    """Build the bundled vision transformer, trained on CIFAR-10."""
    net = VisionTransformer(
        img_size=32, patch_size=4, embed_dim=128, depth=6, num_heads=4, num_classes=10
    )
    stored = load_file(str(ASSETS / "weights" / "vit_vanilla.safetensors"))
    net.load_state_dict({key.removeprefix("backbone."): one.float() for key, one in stored.items()})
    return net


def picture(client: int) -> Image.Image:
    """Return a client's one picture, of the bundled sample of CIFAR-10; its class is its number."""
    with (ASSETS / "cifar10_sample.webp").open("rb") as file:
        return Image.open(file).convert("RGB").crop((32 * client, 0, 32 * client + 32, 32))


def train(message: Message, context: Context, case: str) -> Message:
    """Take one step of SGD on the client's picture, as any client app does."""
    client = int(context.node_config["partition-id"])
    net = network()
    net.load_state_dict(message.content["arrays"].to_torch_state_dict())
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(case != "head" or name.startswith("head."))
    trained = [one for one in net.parameters() if one.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=RATE)
    pixels = normalize(to_tensor(picture(client)), MEAN, STD)[None]
    torch.nn.functional.cross_entropy(net(pixels), torch.tensor([client])).backward()
    optimizer.step()
    sent = {"arrays": ArrayRecord(net.state_dict()), "metrics": MetricRecord({"num-examples": 1})}
    return Message(content=RecordDict(sent), reply_to=message)


def client_app(case: str, folder: Path) -> ClientApp:
    """Return a client that keeps its first update, after what privacy adds."""
    app = ClientApp(mods=[KeepUpdates(folder), *([PRIVACY[case]] if case in PRIVACY else [])])
    app.train()(lambda message, context: train(message, context, case))
    return app


def server_app() -> ServerApp:
    """Return a server that averages once."""

    def main(grid: Grid, context: Context) -> None:
        weights = ArrayRecord(network().state_dict())
        FedAvg(fraction_evaluate=0.0).start(grid, weights, num_rounds=1)

    app = ServerApp()
    app.main()(main)
    return app


def main(case: str, folder: Path, say: Callable[[str], object] = sys.stdout.write) -> None:
    """Simulate, and say what the framework's privacy claims and gives."""
    for client in range(CLIENTS):
        place = folder / "pictures" / str(client)
        place.mkdir(parents=True, exist_ok=True)
        picture(client).save(place / "0.png")
    run_simulation(
        server_app(),
        client_app(case, folder),
        CLIENTS,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )
    mod = PRIVACY.get(case)
    (folder / "noise").write_text(f"{deviation(mod) if mod else 0.0}\n", encoding="ascii")
    if mod:
        say(
            f"LocalDpMod claims epsilon {mod.epsilon:g} at delta {mod.delta:g}; its noise of "
            f"{deviation(mod):.3g} a weight gives epsilon {epsilon(mod):.4g}.\n"
        )


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in CASES:
        sys.exit(f"Usage: python {sys.argv[0]} {'|'.join(CASES)} FOLDER")
    main(sys.argv[1], Path(sys.argv[2]).resolve())
