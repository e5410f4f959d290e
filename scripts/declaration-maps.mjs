// Part of each package's build: maps the names that its declarations in dist/ declare to where its sources declare them, so
// that editors go there. Bundled declarations come without maps.
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { GenMapping, addMapping, toEncodedMap } from "@jridgewell/gen-mapping";
import ts from "typescript";

const sources = readdirSync("src", { recursive: true })
  .map((file) => `src/${file.replaceAll("\\", "/")}`)
  .filter((file) => file.endsWith(".ts") && !/\.test(-support)?\.ts$/.test(file))
  .map(parse);

/** By name: where the sources declare it at their top. */
const origins = groupBy(sources.flatMap(declarationsOf), ({ name }) => name.text);

for (const file of readdirSync("dist").filter((name) => /\.d\.c?ts$/.test(name))) {
  const bundle = parse(join("dist", file));
  const map = new GenMapping({ file });
  const declarations = groupBy(declarationsOf(bundle), ({ name }) => name.text);
  for (const [name, declared] of declarations) {
    const found = originsOf(name);
    // Overloads stand in the same order in both.
    declared.forEach((declaration, i) => link(map, declaration, found[i] ?? found[0]));
  }
  writeFileSync(join("dist", `${file}.map`), JSON.stringify(toEncodedMap(map)));
  writeFileSync(join("dist", file), `${bundle.text.trimEnd()}\n//# sourceMappingURL=${file}.map\n`);
}

function groupBy(items, key) {
  const groups = new Map();
  for (const item of items) groups.set(key(item), [...(groups.get(key(item)) ?? []), item]);
  return groups;
}

function parse(file) {
  return ts.createSourceFile(file, readFileSync(file, "utf8"), ts.ScriptTarget.ES2022, true);
}

/** All that a file declares by name at its top. */
function declarationsOf(file) {
  return file.statements
    .flatMap((statement) => (ts.isVariableStatement(statement) ? statement.declarationList.declarations : statement))
    .filter(({ name }) => name !== undefined && ts.isIdentifier(name));
}

/** The declarations of a name in the one file that declares it, or else in the one that exports it; none where more do. */
function originsOf(name) {
  const all = origins.get(name) ?? [];
  for (const found of [all, all.filter((node) => ts.getCombinedModifierFlags(node) & ts.ModifierFlags.Export)]) {
    if (new Set(found.map((node) => node.getSourceFile())).size === 1) return found;
  }
  return [];
}

/** Maps a declaration's name, and those of its members, to those of its origin. */
function link(map, declaration, origin) {
  if (origin === undefined) return;
  linkName(map, declaration.name, origin.name);
  const members = membersOf(origin);
  for (const member of membersOf(declaration)) {
    const same = members.find((other) => other.name.text === member.name.text);
    if (same !== undefined) linkName(map, member.name, same.name);
  }
}

function membersOf(node) {
  const { members = [] } = node.type !== undefined && ts.isTypeLiteralNode(node.type) ? node.type : node;
  return members.filter(({ name }) => name !== undefined && (ts.isIdentifier(name) || ts.isStringLiteral(name)));
}

/** Both ends of the name: an editor asks for each. */
function linkName(map, name, origin) {
  for (const end of ["getStart", "getEnd"]) {
    const source = origin.getSourceFile();
    addMapping(map, {
      source: `../${source.fileName}`,
      generated: place(name.getSourceFile(), name[end]()),
      original: place(source, origin[end]()),
    });
  }
}

/** Lines of source maps count from 1, columns from 0. */
function place(file, position) {
  const { line, character } = file.getLineAndCharacterOfPosition(position);
  return { line: line + 1, column: character };
}
