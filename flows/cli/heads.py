"""`spinmeround heads`: a contact sheet of a generator's heads."""

from pathlib import Path
from typing import Annotated

import typer

from spinmeround.flows.cli.shared.options import OverridesOption
from spinmeround.flows.cli.shared.output import print_values
from spinmeround.storage.errors import as_config_error


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""
    app.command(rich_help_panel=panel)(heads)


def heads(
    seeds: Annotated[str, typer.Option(help="A range FIRST:END, or seeds separated by commas.")] = "0:48",
    strip: Annotated[
        tuple[int, int] | None, typer.Option(help="Show the interpolation between the heads of two seeds.")
    ] = None,
    steps: Annotated[int, typer.Option(min=2, help="Heads of a strip, both ends included.")] = 9,
    defects: Annotated[
        bool, typer.Option("--defects", help="Show every defect of the procedural generator on the first seed's head.")
    ] = False,
    azimuths: Annotated[
        str, typer.Option(help="Views of each head: azimuths in degrees, separated by commas; 0 is the front.")
    ] = "25",
    resolution: Annotated[int, typer.Option(min=16, max=1024, help="Side of a view, in pixels.")] = 128,
    columns: Annotated[int, typer.Option(min=1, help="Heads per row.")] = 8,
    profile: Annotated[
        str, typer.Option("--profile", "-p", help="Profile that names the generator: a name, or a .toml file.")
    ] = "demo",
    overrides: OverridesOption = None,
    to: Annotated[Path, typer.Option(help="Picture to write, .png or .webp.")] = Path("heads.png"),
) -> None:
    """Show what a generator makes: one picture of many heads."""
    from spinmeround.flows.profile import load_profile
    from spinmeround.panohead_bridge.registry import make_generator
    from spinmeround.tasks.pictures import gallery
    from spinmeround.tasks.pictures.contact_sheet import check_sheet_name, save_contact_sheet
    from spinmeround.tasks.pictures.params import gallery_params, parse_seeds

    check_sheet_name(to)
    with as_config_error("generator: "):
        # nothing is screened, so the profile's limits may belong to another generator
        generator = make_generator(load_profile(profile, [*(overrides or []), "screen={}"]).generator)
    params = gallery_params(azimuths, resolution, columns)
    chosen = parse_seeds(seeds)
    if strip is not None:
        sheet = gallery.strip_sheet(generator, strip, steps, params)
    elif defects:
        sheet = gallery.defects_sheet(generator, chosen[0], params)
    else:
        sheet = gallery.seeds_sheet(generator, chosen, params)
    save_contact_sheet(to, sheet)
    print_values({"sheet": to})
