// `npm run check:imports`: no circle of imports, and none that points upwards; `-- --write` lists packages and rooms with
// what they import in docs/architecture.md, and without it that list has to be as it would be written.
import { readFileSync, writeFileSync } from "node:fs";
import { cruise } from "dependency-cruiser";
import extractTSConfig from "dependency-cruiser/config-utl/extract-ts-config";
import configuration, { packages, rooms } from "../.dependency-cruiser.mjs";

const { forbidden, options } = configuration;
const folders = ["packages", "apps", "bench", "compare", "examples", "golden", "recipes", "e2e"];
const ruleSet = { forbidden };
const tsConfig = extractTSConfig("tsconfig.json");
const { output } = await cruise(folders, { ...options, ruleSet, validate: true }, {}, { tsConfig });
const { modules, summary } = output;

for (const { rule, from, to, cycle = [] } of summary.violations) {
  const way = cycle.length > 0 ? cycle.map(({ name }) => name) : [to];
  console.error(`${rule.name}: ${[from, ...way].join(" -> ")}`);
}

/** What the sources of one name import, by name, as `place` tells of a path. */
function imports(place) {
  const found = new Map();
  for (const { source, dependencies } of modules) {
    if (/[.]test(-support)?[.]ts$/.test(source)) continue;
    const from = place(source);
    if (from === undefined) continue;
    if (!found.has(from)) found.set(from, new Set());
    for (const { resolved } of dependencies) {
      const to = place(resolved);
      if (to !== undefined && to !== from) found.get(from).add(to);
    }
  }
  return found;
}

const list = (levels, found) =>
  [...levels]
    .reverse()
    .flatMap((level) =>
      level.map((name) => `  ${name.padEnd(34)} ${[...(found.get(name) ?? [])].sort().join(" ")}`.trimEnd()),
    );

const packageOf = (path) => /^packages\/([^/]+)\/src\//.exec(path)?.[1];
const lines = ["packages", ...list(packages, imports(packageOf))];
for (const [name, levels] of Object.entries(rooms)) {
  const room = (path) => new RegExp(`^packages/${name}/src/([^/]+)/`).exec(path)?.[1];
  lines.push(`packages/${name}/src`, ...list(levels, imports(room)));
}

const page = new URL("../docs/architecture.md", import.meta.url);
const text = readFileSync(page, "utf8");
const [begin, end] = ["<!-- rooms: npm run check:imports -- --write -->", "<!-- end of rooms -->"];
const [before, rest = ""] = text.split(begin);
const written = `${before}${begin}\n\n\`\`\`\n${lines.join("\n")}\n\`\`\`\n\n${end}${rest.slice(rest.indexOf(end) + end.length)}`;
if (process.argv.includes("--write")) writeFileSync(page, written);
else if (written !== text)
  console.error("docs/architecture.md lists other imports. Run npm run check:imports -- --write.");
process.exitCode = summary.error > 0 || (written !== text && !process.argv.includes("--write")) ? 1 : 0;
