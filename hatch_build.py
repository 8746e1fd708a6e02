"""Take the project's URLs from the repository that a build runs in.

The sources name no address, as in the book (``repository: url`` in ``_config.yml``). On
GitHub Actions two variables say where the repository is; any other build has no URLs.
"""

import os
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class RepositoryURLs(MetadataHookInterface):
    """Fill in ``[project.urls]``."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the URLs to the metadata."""
        server = os.environ.get("GITHUB_SERVER_URL")
        name = os.environ.get("GITHUB_REPOSITORY")
        if server and name:
            owner, repository = name.split("/")
            home = f"{server}/{name}"
            metadata["urls"] = {
                "Homepage": home,
                "Documentation": f"https://{owner.lower()}.github.io/{repository}/",
                "Source": home,
                "Issues": f"{home}/issues",
                "Changelog": f"{home}/blob/main/CHANGELOG.md",
            }
