"""Upload the folder of a published model to Hugging Face's hub."""

from pathlib import Path


def check_repository(repository: str) -> None:
    """Check the name of a repository before any work.

    Raises:
        ValueError: it is not OWNER/NAME.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise ValueError(f"--push {repository}: {error}") from error
    if repository.count("/") != 1:
        raise ValueError(f"--push: expected OWNER/NAME, got {repository!r}")


def upload(folder: Path, repository: str, private: bool) -> str:
    """Create a repository, if it does not exist, and upload a folder to it; return its address.

    Raises:
        ConnectionError, PermissionError: that failed; the message states the command that uploads the folder later.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    later = f"{folder} is complete; `hf upload {repository} {folder}` uploads it"
    api = HfApi()
    try:
        address = str(api.create_repo(repository, private=private, exist_ok=True))
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Published with openvocab")
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise PermissionError(
                f"the hub refuses to write to {repository}: log in with `hf auth login`, or set HF_TOKEN to a token "
                f"that may write there; {later}"
            ) from error
        raise ConnectionError(f"the hub refuses the upload to {repository} ({status}): {error}; {later}") from error
    except Exception as error:  # the client lets through the errors of its HTTP library
        raise ConnectionError(f"the upload to {repository} failed ({type(error).__name__}); {later}") from error
    return address
