import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { command, publishedPackages, root, run, type Manifest } from "../e2e/workspace.js";

/** A repository of nothing but this one's manifests, in which releases are rehearsed. */
let rehearsal: string;

beforeAll(async () => {
  rehearsal = mkdtempSync(join(tmpdir(), "sdxs-versions-"));
  const { workspaces } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { workspaces: string[] };
  const folders = workspaces.flatMap((pattern) => {
    if (!pattern.endsWith("/*")) return [pattern];
    const parent = pattern.slice(0, -"/*".length);
    return readdirSync(join(root, parent), { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => `${parent}/${entry.name}`);
  });
  for (const file of ["package.json", "package-lock.json", ...folders.map((folder) => `${folder}/package.json`)]) {
    mkdirSync(join(rehearsal, dirname(file)), { recursive: true });
    cpSync(join(root, file), join(rehearsal, file));
  }
  cpSync(join(root, ".changeset"), join(rehearsal, ".changeset"), { recursive: true });
  symlinkSync(join(root, "node_modules"), join(rehearsal, "node_modules"), "junction");
  writeFileSync(join(rehearsal, ".gitignore"), "node_modules\n");
  await git("init", "--quiet", "--initial-branch", "main");
  await commit();
});

afterAll(() => rmSync(rehearsal, { recursive: true }));

const git = (...args: string[]): Promise<string> =>
  run("git", ["-c", "user.name=test", "-c", "user.email=test@example.com", ...args], rehearsal);

async function commit(): Promise<void> {
  await git("add", "--all");
  await git("commit", "--quiet", "--message", "A state of the manifests");
}

/** What `changeset version` makes of the changesets that are there: every published manifest, and every changelog. */
async function release(...options: string[]): Promise<{ manifests: Manifest[]; changelogs: string[] }> {
  await command("@changesets/cli", ["version", ...options], rehearsal);
  await commit();
  const read = ({ folder }: { folder: string }, name: string): string =>
    readFileSync(join(rehearsal, folder.slice(root.length), name), "utf8");
  return {
    manifests: publishedPackages.map((published) => JSON.parse(read(published, "package.json")) as Manifest),
    changelogs: publishedPackages.map((published) => read(published, "CHANGELOG.md")),
  };
}

/** Every range in which a manifest takes another published package. */
const internalRanges = (manifests: readonly Manifest[]): string[] =>
  manifests.flatMap(({ dependencies = {}, peerDependencies = {} }) =>
    Object.entries({ ...dependencies, ...peerDependencies })
      .filter(([name]) => manifests.some((manifest) => manifest.name === name))
      .map(([, range]) => range),
  );

// At 0.x a caret admits no other minor: where all packages have one version, and take each other by its caret,
// an app cannot be left with packages of two releases that each bring a tensor package of their own.
describe("after each release", () => {
  test("the first: all packages have one version and take each other in it", async () => {
    writeFileSync(join(rehearsal, ".changeset/first.md"), '---\n"@sdxs/runtime": minor\n---\n\nDraws pictures.\n');
    const { manifests, changelogs } = await release();
    expect(new Set(manifests.map(({ version }) => version))).toEqual(new Set(["0.1.0"]));
    expect(new Set(internalRanges(manifests))).toEqual(new Set(["^0.1.0"]));
    expect(changelogs.filter((text) => text.includes("Updated dependencies"))).toEqual([]);
  });

  test.each([
    ["minor", "0.2.0"],
    ["patch", "0.2.1"],
  ])("a %s release of the tensor package takes all others with it, to %s", async (kind, version) => {
    writeFileSync(join(rehearsal, ".changeset/next.md"), `---\n"@sdxs/tensor": ${kind}\n---\n\nComputes more.\n`);
    const { manifests, changelogs } = await release();
    expect(new Set(manifests.map((manifest) => manifest.version))).toEqual(new Set([version]));
    expect(new Set(internalRanges(manifests))).toEqual(new Set([`^${version}`]));
    expect(changelogs.filter((text) => !text.includes(`## ${version}`))).toEqual([]);
    expect(changelogs.filter((text) => text.includes("- Computes more."))).toHaveLength(1);
  });

  test("a snapshot: all packages have one version, below every release, and take each other in no other", async () => {
    writeFileSync(join(rehearsal, ".changeset/next.md"), '---\n"@sdxs/tensor": minor\n---\n\nComputes more.\n');
    const { manifests } = await release("--snapshot", "faster-decoder");
    const { version } = manifests[0]!;
    expect(version).toMatch(/^0\.0\.0-faster-decoder-\d{14}$/);
    expect(new Set(manifests.map((manifest) => manifest.version))).toEqual(new Set([version]));
    expect(new Set(internalRanges(manifests))).toEqual(new Set([version]));
  });
});
