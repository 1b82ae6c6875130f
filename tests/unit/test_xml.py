"""`xml`: documents as stores send them, documents as stores read them, and what is refused."""

import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import quote_plus
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3dlio._s3 import xml
from s3dlio._s3.xml import CompletedPart, ErrorDocument, MalformedResponse
from s3dlio._values.entity_tags import EntityTag

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
patient = settings(deadline=None)
xml_text = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\ufffe\uffff").filter(
        lambda c: c >= " " or c in "\t\n\r"
    ),
    min_size=1,
    max_size=40,
)

PARSERS: dict[str, Callable[[bytes], object]] = {
    "parse_create_upload": xml.parse_create_upload,
    "parse_complete": xml.parse_complete,
    "parse_list_parts": xml.parse_list_parts,
    "parse_list_uploads": xml.parse_list_uploads,
}


def document(
    root: str, content: str, *, namespace: str = f' xmlns="{NAMESPACE}"', declaration: str = DECLARATION
) -> bytes:
    return f"{declaration}<{root}{namespace}>{content}</{root}>".encode()


def written(text: str) -> str:
    return escape(text, {"\r": "&#13;"})


# --------------------------------------------------------------------------------------------------- errors


def test_an_error_document_is_read_whole() -> None:
    body = (
        b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>PermanentRedirect</Code><Message>Go &amp; see'
        b"</Message><Bucket>b</Bucket><Region>eu-west-1</Region><RequestId>R1</RequestId><HostId>H1</HostId></Error>"
    )
    expected = ErrorDocument("PermanentRedirect", "Go & see", "R1", "H1", "eu-west-1")
    assert xml.parse_error(body) == expected


def test_an_error_document_needs_only_a_code() -> None:
    assert xml.parse_error(b"<Error><Code>SlowDown</Code><Message/></Error>") == ErrorDocument("SlowDown")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"<html><body>502 Bad Gateway</body></html>",
        b"Service Unavailable",
        b"<Error><Message>no code</Message></Error>",
        b"<Error><Code>Cut",
        b"<!DOCTYPE html><Error><Code>X</Code></Error>",
        b"\x00\xff\xfe",
        b'{"error": "json"}',
    ],
)
def test_what_is_no_error_document_is_none(body: bytes) -> None:
    assert xml.parse_error(body) is None


@patient
@given(st.binary(max_size=200))
def test_no_bytes_make_the_error_parser_raise(body: bytes) -> None:
    found = xml.parse_error(body)
    assert found is None or found.code


# ------------------------------------------------------------------------------------------------ multipart


def test_the_upload_id_is_read() -> None:
    body = document("InitiateMultipartUploadResult", "<Bucket>b</Bucket><Key>k</Key><UploadId>a+/=</UploadId>")
    assert xml.parse_create_upload(body) == "a+/="


def test_a_create_without_an_id_is_malformed() -> None:
    with pytest.raises(MalformedResponse, match="lacks UploadId"):
        xml.parse_create_upload(document("InitiateMultipartUploadResult", "<UploadId/>"))


@pytest.mark.parametrize("namespace", [f' xmlns="{NAMESPACE}"', "", ' xmlns="http://other.example/"'])
def test_the_namespace_does_not_matter(namespace: str) -> None:
    body = document("InitiateMultipartUploadResult", "<UploadId>u</UploadId>", namespace=namespace)
    assert xml.parse_create_upload(body) == "u"


def test_a_completion_is_read_with_its_checksums() -> None:
    body = document(
        "CompleteMultipartUploadResult",
        "<Location>l</Location><ETag>&#34;abc-2&#34;</ETag><ChecksumCRC64NVME>AAAAAAAAAAE=</ChecksumCRC64NVME>"
        "<ChecksumType>FULL_OBJECT</ChecksumType>",
    )
    assert xml.parse_complete(body) == (EntityTag("abc-2"), {"ChecksumCRC64NVME": "AAAAAAAAAAE="})


@pytest.mark.parametrize("blanks", [b" ", b"\n\n", b" \r\n\t" * 1000])
def test_white_space_before_a_completion_is_skipped(blanks: bytes) -> None:
    body = blanks + document("CompleteMultipartUploadResult", "<ETag>e</ETag>")
    assert xml.parse_complete(body) == (EntityTag("e"), {})


def test_white_space_between_declaration_and_completion_is_skipped() -> None:
    body = DECLARATION.encode() + b" " * 500 + b"<CompleteMultipartUploadResult><ETag>e</ETag>"
    assert xml.parse_complete(body + b"</CompleteMultipartUploadResult>") == (EntityTag("e"), {})


def test_an_error_inside_a_successful_completion_is_found() -> None:
    body = b"  \n" + DECLARATION.encode() + b"<Error><Code>InternalError</Code><RequestId>R</RequestId></Error>"
    assert xml.parse_complete(body) == ErrorDocument("InternalError", request_id="R")


ODD_TAGS = ["", "<ETag/>", "<ETag> </ETag>", '<ETag>""</ETag>', '<ETag>W/""</ETag>', '<ETag>"a", "b"</ETag>']


@pytest.mark.parametrize("tag", ODD_TAGS)
def test_an_etag_that_cannot_be_read_is_none_and_the_rest_is_read(tag: str) -> None:
    checksums = {"ChecksumCRC32": "AAAAAA=="}
    content = f"{tag}<ChecksumCRC32>AAAAAA==</ChecksumCRC32>"
    assert xml.parse_complete(document("CompleteMultipartUploadResult", content)) == (None, checksums)
    part = f"<Part><PartNumber>1</PartNumber><Size>7</Size>{content}</Part>"
    assert xml.parse_list_parts(document("ListPartsResult", part)).parts == [(1, None, 7, checksums)]


def test_a_weak_etag_stays_weak() -> None:
    result = xml.parse_complete(document("CompleteMultipartUploadResult", '<ETag>W/"abc-2"</ETag>'))
    assert isinstance(result, xml.CompleteResult)
    assert str(result.etag) == "W/abc-2"


def test_the_document_of_a_completion_is_what_s3_documents() -> None:
    parts = [CompletedPart(1, '"aa"'), CompletedPart(2, 'W/"bb"', ("ChecksumCRC32", "AAAAAA=="))]
    assert xml.complete_document(parts) == (
        b'<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        b'<Part><PartNumber>1</PartNumber><ETag>"aa"</ETag></Part>'
        b'<Part><PartNumber>2</PartNumber><ETag>W/"bb"</ETag><ChecksumCRC32>AAAAAA==</ChecksumCRC32></Part>'
        b"</CompleteMultipartUpload>"
    )


def test_the_document_of_many_parts_is_made_in_little_more_memory_than_it_has() -> None:
    parts = (CompletedPart(number, f"{number:032x}", ("ChecksumCRC64NVME", "AAAAAAAAAAA=")) for number in range(10_000))
    tracemalloc.start()
    try:
        document = xml.complete_document(parts)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert document.count(b"<Part>") == 10_000
    assert peak < 1.5 * len(document)


@patient
@given(st.lists(st.builds(CompletedPart, st.integers(1, 10_000), xml_text, st.none() | st.tuples(
    st.sampled_from(["ChecksumCRC32", "ChecksumCRC64NVME"]), xml_text))))  # fmt: skip
def test_a_written_completion_reads_back(parts: list[CompletedPart]) -> None:
    root = ElementTree.fromstring(xml.complete_document(parts))
    assert root.tag == f"{{{NAMESPACE}}}CompleteMultipartUpload"
    read = []
    for part in root:
        number, etag, *checksum = [(child.tag.removeprefix(f"{{{NAMESPACE}}}"), child.text) for child in part]
        assert (number[0], etag[0]) == ("PartNumber", "ETag")
        read.append((int(number[1] or ""), etag[1] or "", checksum[0] if checksum else None))
    assert read == parts


def test_a_page_of_parts_is_read() -> None:
    body = document(
        "ListPartsResult",
        "<PartNumberMarker>0</PartNumberMarker><NextPartNumberMarker>3</NextPartNumberMarker>"
        "<IsTruncated>true</IsTruncated>"
        '<Part><PartNumber>1</PartNumber><ETag>"a"</ETag><Size>5242880</Size><ChecksumCRC32>AAAAAA==</ChecksumCRC32>'
        "</Part><Part><PartNumber>3</PartNumber><ETag>b</ETag><Size>7</Size></Part>",
    )
    page = xml.parse_list_parts(body)
    assert page.parts == [
        (1, EntityTag("a"), 5242880, {"ChecksumCRC32": "AAAAAA=="}),
        (3, EntityTag("b"), 7, {}),
    ]
    assert (page.is_truncated, page.next_marker) == (True, 3)


def test_an_upload_without_parts_is_an_empty_page() -> None:
    assert xml.parse_list_parts(document("ListPartsResult", "<IsTruncated>false</IsTruncated>")) == (
        [],
        False,
        None,
        None,
        None,
    )


@pytest.mark.parametrize(
    ("elements", "told"),
    [
        ("", (None, None)),
        ("<ChecksumAlgorithm/><ChecksumType></ChecksumType>", ("", "")),
        ("<ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumType>COMPOSITE</ChecksumType>", ("CRC32", "COMPOSITE")),
        ("<ChecksumType> full_object\n</ChecksumType>", (None, "FULL_OBJECT")),
    ],
)
def test_the_checksums_of_an_upload_are_what_its_pages_tell(elements: str, told: tuple[str | None, str | None]) -> None:
    page = xml.parse_list_parts(document("ListPartsResult", elements))
    assert (page.checksum_algorithm, page.checksum_type) == told


@pytest.mark.parametrize("marker", ["", "x", "-1", "1.5", "9" * 5000])
def test_a_marker_that_is_no_number_is_none(marker: str) -> None:
    content = f"<NextPartNumberMarker>{marker}</NextPartNumberMarker><IsTruncated>true</IsTruncated>"
    assert xml.parse_list_parts(document("ListPartsResult", content))[:3] == ([], True, None)


@pytest.mark.parametrize(
    ("word", "truncated"),
    [("true", True), (" TRUE\n", True), ("1", True), ("odd", True), ("false", False), ("0", False), ("", False)],
)
def test_a_page_that_does_not_clearly_say_to_be_the_last_is_not(word: str, truncated: bool) -> None:
    body = document("ListPartsResult", f"<IsTruncated>{word}</IsTruncated>")
    assert xml.parse_list_parts(body).is_truncated is truncated


@pytest.mark.parametrize("size", ["-1", "many", "1.5", "1_0", "9" * 5000, "٣"])
def test_a_size_that_is_no_number_is_malformed(size: str) -> None:
    part = f"<Part><PartNumber>1</PartNumber><ETag>a</ETag><Size>{size}</Size></Part>"
    with pytest.raises(MalformedResponse, match="Size of Part"):
        xml.parse_list_parts(document("ListPartsResult", part))


# ------------------------------------------------------------------------------------------------- listings


def upload(key: str, more: str = "") -> str:
    return f"<Upload><Key>{key}</Key><UploadId>u</UploadId>{more}</Upload>"


@patient
@given(st.lists(xml_text, max_size=5), st.lists(xml_text, max_size=3))
def test_listed_keys_are_read_exactly(keys: list[str], prefixes: list[str]) -> None:
    content = "".join(upload(written(k)) for k in keys)
    content += "".join(f"<CommonPrefixes><Prefix>{written(p)}</Prefix></CommonPrefixes>" for p in prefixes)
    page = xml.parse_list_uploads(document("ListMultipartUploadsResult", content))
    assert [one.key for one in page.uploads] == keys
    assert page.common_prefixes == prefixes


@patient
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40), max_size=5))
def test_percent_encoded_keys_are_decoded(keys: list[str]) -> None:
    content = "<EncodingType>url</EncodingType>" + "".join(upload(quote_plus(k, safe="/")) for k in keys)
    page = xml.parse_list_uploads(document("ListMultipartUploadsResult", content))
    assert [one.key for one in page.uploads] == keys


def test_percent_signs_are_kept_where_the_store_did_not_encode() -> None:
    page = xml.parse_list_uploads(document("ListMultipartUploadsResult", upload("100%25+1")))
    assert page.uploads[0].key == "100%25+1"


def test_a_bucket_without_uploads_is_an_empty_page() -> None:
    body = document("ListMultipartUploadsResult", "<Prefix/><IsTruncated>false</IsTruncated>")
    assert xml.parse_list_uploads(body) == ([], [], False, None, None)


@pytest.mark.parametrize(
    "date",
    ["yesterday", "", "undefined", "0001-01-01T00:00:00Z", "99999999999-01-01T00:00:00Z", "1970-01-01T00:00:00Z"],
)
def test_a_date_that_cannot_be_read_is_none_and_the_rest_is_read(date: str) -> None:
    body = document("ListMultipartUploadsResult", upload("k", f"<Initiated>{date}</Initiated>"))
    assert xml.parse_list_uploads(body).uploads == [("k", "u", None)]


def test_a_date_without_a_zone_is_in_utc() -> None:
    body = document("ListMultipartUploadsResult", upload("k", "<Initiated>2024-01-02T03:04:05</Initiated>"))
    assert xml.parse_list_uploads(body).uploads[0].initiated == datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_a_page_of_uploads_is_read() -> None:
    body = document(
        "ListMultipartUploadsResult",
        "<EncodingType>url</EncodingType><NextKeyMarker>a+b</NextKeyMarker>"
        "<NextUploadIdMarker>u+1</NextUploadIdMarker><IsTruncated>true</IsTruncated>"
        "<Upload><Key>a+b</Key><UploadId>u+1</UploadId><Initiated>2024-01-02T03:04:05Z</Initiated></Upload>"
        "<CommonPrefixes><Prefix>d%2F</Prefix></CommonPrefixes>",
    )
    page = xml.parse_list_uploads(body)
    assert page.uploads == [("a b", "u+1", datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC))]
    assert page[1:] == (["d/"], True, "a b", "u+1")


@pytest.mark.parametrize("character", ["\x00", "\x08", "\x1f", "\ud800", "\ufffe", "\uffff"])
def test_what_xml_cannot_express_is_refused(character: str) -> None:
    with pytest.raises(ValueError, match="cannot be written in an XML document"):
        xml.complete_document([CompletedPart(1, "fine"), CompletedPart(2, f"bad{character}")])


# --------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("name", sorted(PARSERS))
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not xml",
        b"<html></html>",
        b"<ListPartsResult><Part>",
        b"<a></b>",
        b'<?xml version="1.0" encoding="no-such"?><ListPartsResult/>',
        b"<p:ListPartsResult/>",
        b"<Unknown/>",
        b"<ListMultipartUploadsResult>\xff</ListMultipartUploadsResult>",
        b"<ListMultipartUploadsResult>&nbsp;</ListMultipartUploadsResult>",
        b"<ListMultipartUploadsResult/><ListMultipartUploadsResult/>",
    ],
)
def test_another_document_is_malformed(name: str, body: bytes) -> None:
    with pytest.raises(MalformedResponse):
        PARSERS[name](body)


def test_a_malformed_response_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="is a 'html' document; expected ListPartsResult"):
        xml.parse_list_parts(b"<html/>")


@pytest.mark.parametrize(
    "doctype",
    [
        b"<!DOCTYPE ListMultipartUploadsResult>",
        b'<!DOCTYPE ListMultipartUploadsResult SYSTEM "file:///etc/passwd">',
        b'<!DOCTYPE ListMultipartUploadsResult [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>',
        b'<!DOCTYPE ListMultipartUploadsResult [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
    ],
)
def test_a_doctype_is_refused_and_with_it_every_entity(doctype: bytes) -> None:
    with pytest.raises(MalformedResponse, match="DOCTYPE"):
        xml.parse_list_uploads(
            doctype + b"<ListMultipartUploadsResult><Upload><Key>&x;</Key></Upload></ListMultipartUploadsResult>"
        )


def test_an_oversized_document_is_refused_unread() -> None:
    with pytest.raises(MalformedResponse, match="S3's have at most"):
        xml.parse_list_uploads(b"<" * (xml.MAX_DOCUMENT + 1))


def test_a_deeply_nested_document_is_refused() -> None:
    with pytest.raises(MalformedResponse, match="nests more than"):
        xml.parse_list_uploads(b"<a>" * 100_000)
