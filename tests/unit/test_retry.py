"""`retry`: the table of outcomes, the back-off and its cap."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3dlio._s3.retry import Decision, Failure, Outcome, Verdict, classify, pause_bound
from s3dlio.config import RetryPolicy

RETURN, RETRY, RAISE = Verdict.RETURN, Verdict.RETRY, Verdict.RAISE
POLICY = RetryPolicy(max_attempts=5, base_delay=0.1, max_delay=2.0)
OPERATIONS = [
    "AbortMultipartUpload",
    "CompleteMultipartUpload",
    "CreateMultipartUpload",
    "GetObject",
    "HeadObject",
    "ListParts",
    "PutObject",
    "UploadPart",
]
patient = settings(deadline=None)
policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 100),
    base_delay=st.floats(0.001, 60),
    max_delay=st.floats(0.001, 600),
)
outcomes = st.builds(
    Outcome,
    st.sampled_from(OPERATIONS),
    st.integers(100, 599),
    st.sampled_from([None, "SlowDown", "NoSuchKey", "ExpiredToken", "ConditionalRequestConflict"]),
    st.none(),
) | st.builds(Outcome, st.sampled_from(OPERATIONS), st.none(), st.none(), st.sampled_from(Failure))


def verdict(operation: str, status: int | None, code: str | None, failure: Failure | None = None) -> Verdict:
    return classify(Outcome(operation, status, code, failure), 1, 0.0, POLICY, 0.5).verdict


PASSING_FAILURES = [failure for failure in Failure if failure not in (Failure.UNTRUSTED, Failure.PROXY)]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("failure", PASSING_FAILURES)
def test_a_failure_of_the_transport_is_retried(operation: str, failure: Failure) -> None:
    assert verdict(operation, None, None, failure) is RETRY


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_certificate_that_was_refused_is_not_shown_again(operation: str) -> None:
    assert verdict(operation, None, None, Failure.UNTRUSTED) is Verdict.RAISE


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_proxy_that_refused_is_not_asked_again(operation: str) -> None:
    assert verdict(operation, None, None, Failure.PROXY) is Verdict.RAISE


@pytest.mark.parametrize("failure", PASSING_FAILURES)
def test_a_failure_within_a_good_answer_is_retried(failure: Failure) -> None:
    assert verdict("GetObject", 206, None, failure) is RETRY


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 509, 520, 521, 522, 523, 524, 529, 530, 598])
def test_a_passing_status_is_retried_without_a_code_too(operation: str, status: int) -> None:
    assert verdict(operation, status, None) is RETRY


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (503, "SlowDown"),
        (503, "SlowDownRead"),
        (503, "SlowDownWrite"),
        (503, "ServiceUnavailable"),
        (500, "InternalError"),
        (400, "RequestTimeout"),
        (400, "ThrottlingException"),
        (429, "TooManyRequests"),
        (409, "OperationAborted"),
        (400, "SlowDown"),
    ],
)
def test_a_passing_code_is_retried_whatever_its_status(operation: str, status: int, code: str) -> None:
    assert verdict(operation, status, code) is RETRY


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "RequestTimeTooSkewed"),
        (403, None),
        (400, "ExpiredToken"),
        (400, "TokenRefreshRequired"),
        (301, "PermanentRedirect"),
        (301, None),
        (307, "TemporaryRedirect"),
        (400, "AuthorizationHeaderMalformed"),
        (400, "IllegalLocationConstraintException"),
    ],
)
def test_what_the_client_can_put_right_is_left_to_it(operation: str, status: int, code: str) -> None:
    assert verdict(operation, status, code) is Verdict.CORRECT


@pytest.mark.parametrize("operation", ["GetObject", "PutObject", "UploadPart", "CompleteMultipartUpload"])
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (304, None),
        (400, None),
        (400, "BadDigest"),
        (400, "EntityTooSmall"),
        (400, "InvalidPart"),
        (400, "XAmzContentChecksumMismatch"),
        (401, None),
        (403, "AccessDenied"),
        (403, "SignatureDoesNotMatch"),
        (404, None),
        (404, "NoSuchBucket"),
        (404, "NoSuchKey"),
        (404, "NoSuchUpload"),
        (405, "MethodNotAllowed"),
        (409, "BucketAlreadyExists"),
        (412, "PreconditionFailed"),
        (416, "InvalidRange"),
        (501, "NotImplemented"),
        (507, "XMinioStorageFull"),
    ],
)
def test_a_refusal_is_raised(operation: str, status: int, code: str | None) -> None:
    assert verdict(operation, status, code) is RAISE


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("status", [200, 204, 206])
def test_success_is_returned(operation: str, status: int) -> None:
    assert verdict(operation, status, None) is RETURN


@pytest.mark.parametrize(
    ("operation", "status", "code", "expected"),
    [
        # A conditional PutObject that met another is sent again; a Complete that did has used its upload up.
        ("PutObject", 409, "ConditionalRequestConflict", RETRY),
        ("CompleteMultipartUpload", 409, "ConditionalRequestConflict", RAISE),
        # An error inside a 200: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
        ("CompleteMultipartUpload", 200, "InternalError", RETRY),
        ("CompleteMultipartUpload", 200, "SlowDown", RETRY),
        ("CompleteMultipartUpload", 200, "InvalidPart", RAISE),
        # An earlier attempt may have published the object: its caller looks.
        ("CompleteMultipartUpload", 404, "NoSuchUpload", RAISE),
        # What is gone need not be aborted; a bucket that is gone is another matter.
        ("AbortMultipartUpload", 404, "NoSuchUpload", RETURN),
        ("AbortMultipartUpload", 404, None, RETURN),
        ("AbortMultipartUpload", 404, "NoSuchBucket", RAISE),
        ("AbortMultipartUpload", 403, "AccessDenied", RAISE),
        ("ListParts", 404, "NoSuchUpload", RAISE),
        # The answer to a HEAD has no code: its headers may name a region, and a token may have expired.
        ("HeadObject", 400, None, Verdict.CORRECT),
        ("HeadBucket", 400, None, Verdict.CORRECT),
        ("GetObject", 400, None, RAISE),
        # The region that was asked for the bucket, and not where it is.
        ("CreateBucket", 400, "IllegalLocationConstraintException", RAISE),
    ],
)
def test_rules_of_single_operations(operation: str, status: int, code: str | None, expected: Verdict) -> None:
    assert verdict(operation, status, code) is expected


def test_the_last_attempt_is_not_followed_by_another() -> None:
    outcome = Outcome("GetObject", 503, "SlowDown", None)
    verdicts = [classify(outcome, attempt, 0.0, POLICY, 0.5).verdict for attempt in range(1, 7)]
    assert verdicts == [RETRY] * 4 + [RAISE] * 2


@patient
@given(outcomes, policies, st.floats(0, 1, exclude_max=True))
def test_no_outcome_is_attempted_more_often_than_the_policy_says(
    outcome: Outcome, policy: RetryPolicy, random: float
) -> None:
    attempt = 1
    while classify(outcome, attempt, 0.0, policy, random).verdict is RETRY:
        attempt += 1
    assert attempt <= policy.max_attempts


@pytest.mark.parametrize(("attempt", "bound"), [(1, 0.2), (2, 0.4), (3, 0.8), (4, 1.6), (5, 2.0), (6, 2.0), (100, 2.0)])
def test_the_pause_doubles_up_to_its_longest(attempt: int, bound: float) -> None:
    assert pause_bound(attempt, POLICY) == pytest.approx(bound)


@patient
@given(
    outcomes,
    st.integers(1, 99),
    policies,
    st.floats(0, 1, exclude_max=True),
)
def test_the_pause_is_the_drawn_share_of_its_bound(
    outcome: Outcome, attempt: int, policy: RetryPolicy, random: float
) -> None:
    decision = classify(outcome, attempt, 0.0, policy, random)
    expected = random * min(policy.max_delay, policy.base_delay * 2**attempt)
    assert decision.delay == (pytest.approx(expected) if decision.verdict is RETRY else 0.0)
    assert 0 <= decision.delay <= policy.max_delay


def test_full_jitter_reaches_from_zero_to_the_bound() -> None:
    outcome = Outcome("UploadPart", None, None, Failure.CONNECT)
    assert classify(outcome, 3, 0.0, POLICY, 0.0) == Decision(RETRY, 0.0)
    assert classify(outcome, 3, 0.0, POLICY, 0.999).delay == pytest.approx(0.7992)


@pytest.mark.parametrize(("asked", "pause"), [(0.0, 0.1), (0.05, 0.1), (5.0, 5.0), (60.0, 60.0), (1e9, 60.0)])
def test_a_store_that_asks_for_time_is_given_it_within_bounds(asked: float, pause: float) -> None:
    outcome = Outcome("PutObject", 503, "SlowDown", None)
    assert classify(outcome, 1, 0.0, POLICY, 0.5, asked) == Decision(RETRY, pytest.approx(pause))


@pytest.mark.parametrize(
    ("elapsed", "asked", "expected"),
    [(0.0, 0.0, RETRY), (0.85, 0.0, RETRY), (0.95, 0.0, RAISE), (2.0, 0.0, RAISE), (0.0, 2.0, RAISE)],
)
def test_no_attempt_begins_that_the_deadline_would_cut(elapsed: float, asked: float, expected: Verdict) -> None:
    policy = RetryPolicy(base_delay=0.1, deadline=1.0)
    outcome = Outcome("GetObject", 503, "SlowDown", None)
    assert classify(outcome, 1, elapsed, policy, 0.5, asked).verdict is expected


@patient
@given(outcomes, st.integers(1, 10), policies, st.floats(0, 1e9))
def test_age_alone_never_changes_a_decision(
    outcome: Outcome, attempt: int, policy: RetryPolicy, elapsed: float
) -> None:
    assert classify(outcome, attempt, elapsed, policy, 0.5) == classify(outcome, attempt, 0.0, policy, 0.5)
