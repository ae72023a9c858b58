"""Place the model files of the default profile and of those in model_profiles."""

from pyinfra import logger
from pyinfra.api import DeployError

from claude_local.deploy.operations import models, user_files
from claude_local.deploy.workstation import PROJECT, workstation
from claude_local.models import lock
from claude_local.models.placement_plan import PlacementError, plan_data

ws = workstation()

for line in ws.choice.lines():
    logger.info(line)

if ws.bandwidth is not None and not ws.bandwidth.stored:
    # The next deploy must choose the same.
    user_files.put(
        name="Remember how fast the memory is", dest=ws.paths.bandwidth, text=f"{ws.bandwidth.rate}\n", mode="600"
    )

try:
    plan = plan_data(
        ws.profiles,
        ws.settings.model_profiles,
        model_dir=ws.paths.model_dir,
        search_dirs=ws.search_dirs,
        hub=ws.settings.model_hub,
        placements_path=ws.paths.placements,
    )
except PlacementError as error:
    raise DeployError(str(error)) from None

missing = f" ({ws.models_to_download / 1e9:.1f} GB to download)" if ws.models_to_download else ""
models.place(
    name=f"Place the models: {', '.join(ws.settings.model_profiles)}{missing}", python=ws.paths.python, plan=plan
)

models.lock(
    name="Record the hub's sha256 in models.lock",
    path=(PROJECT / ws.settings.models_conf).with_name(lock.NAME),
    profiles=[ws.profiles[name] for name in ws.settings.model_profiles],
    placements=ws.paths.placements,
)
