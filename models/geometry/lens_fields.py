"""The fields of a transforms.json by which other programs state a lens, and the walk that checks each of them.

`FIELDS` is the table: a name in lower case without punctuation, and the check of its value. It is looked up for the
fields of the document, of its frames, and of the objects in these that `_OBJECTS` names: those of the picture's own
camera. All else is of something else, as a depth camera or the uncropped picture, and passes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from spinmeround.models.geometry import lens_checks
from spinmeround.models.geometry.lens_checks import Check, LensObject
from spinmeround.models.geometry.lens_values import COEFFICIENTS, ReadLens, squeezed
from spinmeround.storage.errors import printable

MAX_DEPTH = 32
"""Most levels of lists and objects, many more than any program writes."""

NUMBERS = {"w", "h", "fl_x", "fl_y", "cx", "cy", "camera_angle_x", "camera_angle_y", *COEFFICIENTS}
READ = {"camera_model", "is_fisheye", "distortion_params"} | NUMBERS
"""The fields of `Lens`, which it reads in the document and in the frames."""

_MANY = {"cameras", "cams", "intrinsics", "lenses", "sensors"}
_OBJECTS = _MANY | {
    *("camera", "cam", "lens", "sensor", "optics", "projection", "calibration", "calib", "cameracalibration", "params"),
    *("cameraparams", "cameraparameters", "camerainfo", "cameradata", "cameramodel", "intrinsic", "cameraintrinsic"),
    *("cameraintrinsics", "k", "kmatrix", "cameramatrix", "lensparams", "distortion", "lensdistortion", "distcoeffs"),
    *("radialdistortion", "tangentialdistortion", "distortioncoefficients", "distortioncoeffs", "distortionparams"),
}
_PARTS = _OBJECTS | {
    "data",
    "value",
    "ptrwrapper",
    "parameters",
    "model",
    "pinhole",
    "shutter",
    "coefficients",
    "coeffs",
}
"""Names of objects of a camera: in the document and in frames, and in such objects."""

_OF_CAMERAS = {"name", "kind", "coefficients", "coeffs", "coefs"}
"""Names that mean something else in the document and in frames."""

_OF_COEFFICIENTS = (
    *("distortion", "lensdistortion", "cameradistortion", "radialdistortion", "tangentialdistortion", "dist"),
    *("radial", "tangential", "lens", "camera", "brown", "opencv"),
)

_SYNONYMS = {squeezed(name): name for name in NUMBERS} | {
    **dict.fromkeys(("fx", "focalx", "focallengthx"), "fl_x"),
    **dict.fromkeys(("fy", "focaly", "focallengthy"), "fl_y"),
    **dict.fromkeys(("u0", "ppx", "centerx", "centrex", "principalx", "principalpointx"), "cx"),
    **dict.fromkeys(("v0", "ppy", "centery", "centrey", "principaly", "principalpointy"), "cy"),
    **{f"{of}{name}": name for of in _OF_COEFFICIENTS for name in COEFFICIENTS},
}
"""Other names and spellings of numbers that `Lens` reads."""

_KINDS: tuple[tuple[Check, str], ...] = (
    (
        lens_checks.check_kind,
        "projection projectiontype projectionmodel projectionmode projectionkind cameraprojection cameramodel "
        "cameramodelname cameratype lens lenskind lenstype lensmodel lensprojection distortionmodel distortiontype "
        "polymorphicname model modelname type kind",
    ),
    (lens_checks.check_name, "name camera"),
    (
        lens_checks.check_flag,
        "isfisheye fisheye latlong equirectangular isequirectangular orthographic isorthographic spherical isspherical "
        "cylindrical ortho isortho omnidirectional ispanorama vr180 "
        "fthetap0 fthetap1 fthetap2 fthetap3 fthetap4 fthetap5",
    ),
    (lens_checks.unless_perspective(lens_checks.check_kind), "panoramatype"),
    (
        lens_checks.unless_perspective(lens_checks.check_flag),
        "orthoscale fisheyefov fisheyelens fisheyepolynomialk0 fisheyepolynomialk1 fisheyepolynomialk2 "
        "fisheyepolynomialk3 fisheyepolynomialk4",
    ),
)
"""Of lenses that are no pinholes."""

_NUMBERS: tuple[tuple[Check, str], ...] = (
    (
        lens_checks.check_distortion,
        "distortion distortions distortioncoefficients distortioncoefficient distortioncoeffs distortioncoeff "
        "distortioncoefs distortionparams distortionparameters distortionvector distcoefficients distcoeffs distcoeff "
        "distcoefs lensdistortion opticaldistortion radialdistortion tangentialdistortion thinprismdistortion "
        "radialcoefficients radialcoeffs radialparams tangentialcoefficients tangentialcoeffs tangentialparams "
        "thinprismcoefficients thinprismcoeffs thinprismparams distorted isdistorted hasdistortion "
        "distok1 distok3 distot2",
    ),
    (lens_checks.check_coefficients, "d dist"),
    (
        lens_checks.check_zero,
        "k7 k8 k9 p3 p4 s1 s2 s3 s4 taux tauy b1 b2 skew shear xi disto kc radial tangential thinprism coefficients "
        "coeffs coefs",
    ),
    (lens_checks.check_shift, "shiftx shifty lensshift lensshiftx lensshifty"),
    (lens_checks.check_centre, "principalpoint"),
    (lens_checks.check_k, "k"),
    (
        lens_checks.check_matrix,
        "kmatrix intrinsic intrinsics intrinsicmatrix intrinsicsmatrix cameraintrinsic cameraintrinsics cameramatrix",
    ),
    (lens_checks.check_parameters, "params cameraparams"),
    (
        lens_checks.check_angle,
        "fov fovx fovy xfov yfov hfov vfov dfov fovdeg fovdegrees fieldofview horizontalfov verticalfov diagonalfov",
    ),
    (lens_checks.check_square, "pixelaspect pixelaspectratio pixelaspectx pixelaspecty"),
    (
        lens_checks.check_shutter,
        "rollingshutter isrollingshutter userollingshutter rollingshuttertype rollingshuttertime "
        "rollingshutterreadouttime rollingshutteroffset rollingshutteroffsets rollingshutterskew readouttime linedelay "
        "linereadouttime",
    ),
    (lens_checks.check_shutter_kind, "shutter shuttertype sensorshutter"),
    (lens_checks.check_still, "transformmatrixstart transformmatrixend"),
    (lens_checks.size_of("w"), "width"),
    (lens_checks.size_of("h"), "height"),
    *((lens_checks.same_as(native), name) for name, native in _SYNONYMS.items()),
)

_TABLE = (*_KINDS, *_NUMBERS)
FIELDS: dict[str, Check] = {name: check for check, names in _TABLE for name in names.split()}
_OF_KINDS = {name for _, names in _KINDS for name in names.split()}


def check_depth(document: Mapping[str, Any]) -> None:
    """Raises ValueError that names a field of more levels than `MAX_DEPTH`, which nothing could walk."""
    found = list(document.items())
    for _ in range(MAX_DEPTH):
        nested = [(name, value) for name, value in found if isinstance(value, Mapping | list)]
        found = [(name, e) for name, value in nested for e in (value.values() if isinstance(value, Mapping) else value)]
    if found:
        raise ValueError(f"{printable(found[0][0])}: expected lists and objects in at most {MAX_DEPTH} levels")


def check_lens_fields(document: Mapping[str, Any], lenses: Sequence[ReadLens] | None = None) -> None:
    """Raises ValueError that names the first field of no pinhole, or with the lens of each frame, of another lens."""
    checked = set()
    for number, frame in enumerate(document["frames"]):
        lens = ReadLens() if lenses is None else lenses[number]
        camera_id = None if frame.get("camera_id") is None else str(frame["camera_id"])
        if (lens, camera_id) not in checked:
            _check(LensObject("", document, True, lens, camera_id, lenses is None))
        checked.add((lens, camera_id))
        _check(LensObject(f"frames[{number}]", frame, True, lens, camera_id, lenses is None))


def _check(place: LensObject) -> None:
    for field, value in place.fields.items():
        name, full = squeezed(field), f"{place.name}.{printable(field)}" if place.name else printable(field)
        passes = place.read and (field in READ or name in _OF_CAMERAS)
        if name in FIELDS and (name in _OF_KINDS) == place.kinds and not passes:
            FIELDS[name](full, value, place)
        if name in (_OBJECTS if place.read else _PARTS):
            _check_cameras(place._replace(name=full, read=False), _cameras(value, many=name in _MANY))


def _cameras(value: Any, *, many: bool) -> list[tuple[str, Mapping[str, Any]]]:
    """The objects of a value, with suffixes: itself, or those in a list or, by their ids, in an object of many."""
    found = [("", value)]
    if isinstance(value, list):
        found = [(f"[{index}]", each) for index, each in enumerate(value)]
    elif many and isinstance(value, Mapping) and all(isinstance(each, Mapping) for each in value.values()):
        found = [(f".{printable(key)}", {"id": key, **each}) for key, each in value.items()]
    return [(at, each) for at, each in found if isinstance(each, Mapping) and each.get("enabled") is not False]


def _check_cameras(place: LensObject, cameras: list[tuple[str, Mapping[str, Any]]]) -> None:
    """Checks the camera of the frame's id; without one all are to be pinholes, and one of them the frame's lens."""
    told = [(at, each) for at, each in cameras if str(each.get("camera_id", each.get("id"))) == place.camera_id]
    errors = []
    for at, fields in told or cameras:
        try:
            _check(place._replace(name=place.name + at, fields=fields))
        except ValueError as error:
            errors.append(error)
        else:
            if not place.kinds:
                return
    if errors:
        raise errors[0]
