import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { root } from "../e2e/workspace.js";

const folder = join(root, ".github/workflows");
const workflows = readdirSync(folder).map((name) => ({ name, text: readFileSync(join(folder, name), "utf8") }));

/** The jobs of a workflow by name, each with its own lines. */
function jobsOf(text: string): Map<string, string> {
  const [, jobs = ""] = text.split(/^jobs:\n/m);
  const parts = jobs.split(/^ {2}([\w-]+):\n/m).slice(1);
  return new Map(parts.flatMap((name, i) => (i % 2 === 0 ? [[name, parts[i + 1]!] as const] : [])));
}

describe.each(workflows)("$name", ({ text }) => {
  test("pins each action by the hash of a commit, and names its version", () => {
    const uses = [...text.matchAll(/uses: (.*)/g)].map(([, action]) => action);
    expect(uses).not.toEqual([]);
    expect(uses.filter((action) => !/^[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/.test(action ?? ""))).toEqual([]);
  });

  test("gives jobs what they ask for and nothing else", () => {
    expect(text).toMatch(/^permissions: \{\}$/m);
    expect(text).not.toContain("pull_request_target");
    const jobs = [...jobsOf(text)];
    expect(jobs).not.toEqual([]);
    expect(jobs.filter(([, lines]) => !/^ {4}permissions:\n/m.test(lines)).map(([name]) => name)).toEqual([]);
    expect(jobs.filter(([, lines]) => !/^ {4}timeout-minutes:/m.test(lines)).map(([name]) => name)).toEqual([]);
  });

  test("leaves no credentials in a checkout", () => {
    const checkouts = text.match(/uses: actions\/checkout@/g) ?? [];
    expect(text.match(/persist-credentials: false/g)).toHaveLength(checkouts.length);
  });
});

test("one job has an identity and secrets: the one that publishes", () => {
  const jobs = workflows.flatMap(({ text }) => [...jobsOf(text)]);
  const holding = (words: string): string[] => jobs.filter(([, lines]) => lines.includes(words)).map(([name]) => name);
  expect(holding("id-token: write")).toEqual(["publish"]);
  expect(holding("secrets.")).toEqual(["publish"]);
});

test("a push runs all tests once", () => {
  expect(workflows.map(({ text }) => text.match(/run: \.ci\/run$/gm)?.length ?? 0)).toEqual([1]);
});

test("what is published is tested on every system and each Node that is supported", () => {
  const lines = workflows.flatMap(({ text }) => jobsOf(text).get("published") ?? []).join("");
  expect(/system: \[(.*)\]/.exec(lines)?.[1]?.replace(/-[\d.]+/g, "")).toBe("ubuntu, macos, windows");
  expect(/node: \[(.*)\]/.exec(lines)?.[1]).toBe("20, 22, 24");
});
