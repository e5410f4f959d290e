// How `changeset version` writes the changelogs: each changeset's own words.
// All packages have one version, so which of its neighbours a package takes goes without saying.

/** A changeset as an item of a list, its further lines indented to belong to it. */
exports.getReleaseLine = async ({ summary }) => `- ${summary.trim().replaceAll("\n", "\n  ")}`;

exports.getDependencyReleaseLine = async () => "";
