"""What another method needs to predict the evaluated views: a folder of given pictures, cameras, and wanted names.

    wanted.txt                           names of the pictures to make, one a line, relative to the method's own folder
    <head id>/given/<view>.png           the given views, RGBA with straight alpha
    <head id>/given/<view>-normals.png   their normals, in the world frame
    <head id>/given/transforms.json      their cameras, in nerfstudio's format
    <head id>/transforms.json            the cameras of the wanted pictures, which its frames name

The true pictures are not written.
"""

from pathlib import Path

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.geometry.transforms import transforms_json
from spinmeround.storage.dataset import HeadDataset
from spinmeround.tasks.evaluation.methods import picture_file, wanted_files
from spinmeround.tasks.evaluation.params import EvaluateParams
from spinmeround.tasks.evaluation.views import EvaluationViews, choose_views
from spinmeround.tasks.exchange.formats import check_id, json_text, new_folder, png
from spinmeround.tasks.heads.embed import EmbedParams
from spinmeround.tasks.loading.view_images import read_views
from spinmeround.tasks.pictures.webp import cut_out


def write_inputs(data: HeadDataset, params: EvaluateParams, embed: EmbedParams, target: Path) -> list[str]:
    """Write the inputs of the evaluation to the new folder `target`; returns the names of the wanted pictures.

    Raises ConfigError if `target` exists, and DatasetError as `choose_views`.
    """
    heads = choose_views(data, params, embed.frontal)
    wanted = wanted_files(data, heads)
    with new_folder(target) as folder:
        for views in heads:
            _write_head(data, views, folder / check_id(data.ids[views.subject]))
        (folder / "wanted.txt").write_text("".join(f"{name}\n" for name in wanted), encoding="utf-8")
    return wanted


def _write_head(data: HeadDataset, views: EvaluationViews, folder: Path) -> None:
    cameras, side = Cameras(**data.cameras(views.subject)), data.sizes["height"]
    given = read_views(data, views.subject, views.conditioning_indices)
    (folder / "given").mkdir(parents=True)
    colours = cut_out(given.rgb, given.mask)
    names = [f"{view:03d}" for view in views.conditioning_indices]
    for picture, normals, name in zip(colours, given.normals, names, strict=True):
        (folder / "given" / f"{name}.png").write_bytes(png(picture))
        (folder / "given" / f"{name}-normals.png").write_bytes(png(normals))
    files, maps = [f"{name}.png" for name in names], {"normals_file_path": [f"{name}-normals.png" for name in names]}
    document = transforms_json(cameras[views.conditioning_indices], side, files, maps)
    (folder / "given" / "transforms.json").write_bytes(json_text(document))
    targets = [picture_file(data.ids[views.subject], view).rpartition("/")[2] for view in views.targets]
    (folder / "transforms.json").write_bytes(json_text(transforms_json(cameras[views.targets], side, targets)))
