"""Data set `image_folder`: a folder of images and a CSV file with label, attribute and split of each."""

from __future__ import annotations

from pydantic import Field

from ipgl.data.image_dataset import ImageDatasetSettings, build_image_dataset
from ipgl.data.layouts import dataset_root
from ipgl.data.manifest import Columns, check_table, read_csv
from ipgl.data.types import Dataset
from ipgl.data.waterbirds import resized_and_cropped


class ImageFolderSettings(ImageDatasetSettings):
    """Settings of `image_folder`."""

    manifest: str = Field(
        "manifest.csv",
        description="CSV below `root` with columns path, label, attribute, split and, if there are several, "
        "environment.",
    )
    label: str = Field("label", description="Column of the classes.")
    attribute: str = Field("attribute", description="Column of the spurious attribute.")
    classes: tuple[str, ...] | None = Field(
        None, min_length=2, description="Class names in order; null: those in the file."
    )
    attributes: tuple[str, ...] | None = Field(
        None, min_length=2, description="Names of the attribute's values in order; null: those in the file."
    )


def build_image_folder(settings: ImageFolderSettings) -> Dataset:
    """Build the data set; images are resized and cropped as those of `waterbirds`.

    Raises:
        DataError: The folder or the manifest is missing, rows, images or pairs are faulty, or training pictures are
            also in validation or test.
    """
    root = dataset_root(settings.root)
    columns = Columns(
        label=settings.label,
        attribute=settings.attribute,
        class_names=settings.classes,
        attribute_names=settings.attributes,
    )
    table, notes = check_table(read_csv(root / settings.manifest), root, columns, skip_bad=settings.skip_bad)
    return build_image_dataset(
        settings, table, resized_and_cropped(settings.input_size), notes, refuse_copies=True
    )
