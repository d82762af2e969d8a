"""The default sample, built once."""

import pytest

from corpus.sample.document import Document, build_document
from corpus.sample.params import SampleParams


@pytest.fixture(scope="session")
def params() -> SampleParams:
    return SampleParams()


@pytest.fixture(scope="session")
def pages(params: SampleParams) -> list[Document]:
    return [build_document(params, index) for index in range(params.n_docs)]
