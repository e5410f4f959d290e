import { join } from "node:path";
import ts from "typescript";

/** What tsserver maps a definition by, which TypeScript's declarations leave out. */
interface WithSourceMapper {
  getSourceMapper(): {
    tryGetSourcePosition(place: { fileName: string; pos: number }): { fileName: string; pos: number } | undefined;
  };
}

/**
 * Where an editor arrives by "go to definition" from the import of each name: "FILE: NAME", by entry.
 * `folder` is the one in whose node_modules the entries' packages lie.
 */
export function definitions(
  folder: string,
  imports: Readonly<Record<string, readonly string[]>>,
): Record<string, string[]> {
  const file = join(folder, "editor.mts");
  const lines = Object.entries(imports).map(([entry, names]) => `import type { ${names.join(", ")} } from "${entry}";`);
  const text = lines.join("\n");
  const service = ts.createLanguageService({
    getCompilationSettings: () => ({ module: ts.ModuleKind.NodeNext, types: [], noLib: true }),
    getScriptFileNames: () => [file],
    getScriptVersion: () => "1",
    getScriptSnapshot: (name) => {
      const content = name === file ? text : ts.sys.readFile(name);
      return content === undefined ? undefined : ts.ScriptSnapshot.fromString(content);
    },
    getCurrentDirectory: () => folder,
    getDefaultLibFileName: ts.getDefaultLibFilePath,
    useCaseSensitiveFileNames: () => ts.sys.useCaseSensitiveFileNames,
    fileExists: (name) => ts.sys.fileExists(name),
    readFile: (name) => ts.sys.readFile(name),
    directoryExists: (name) => ts.sys.directoryExists(name),
    realpath: (name) => ts.sys.realpath?.(name) ?? name,
  });
  const mapper = (service as unknown as WithSourceMapper).getSourceMapper();

  const definitionAt = (position: number, name: string): string => {
    const [definition] = service.getDefinitionAtPosition(file, position) ?? [];
    if (definition === undefined) return `nowhere: ${name}`;
    const declared = { fileName: definition.fileName, pos: definition.textSpan.start };
    const { fileName, pos } = mapper.tryGetSourcePosition(declared) ?? declared;
    return `${fileName}: ${ts.sys.readFile(fileName)?.slice(pos, pos + name.length)}`;
  };
  let lineStart = 0;
  const found = Object.entries(imports).map(([entry, names], i) => {
    let position = lineStart + "import type { ".length;
    lineStart += `${lines[i]!}\n`.length;
    const places = names.map((name) => {
      const place = definitionAt(position, name);
      position += `${name}, `.length;
      return place;
    });
    return [entry, places] as const;
  });
  service.dispose();
  return Object.fromEntries(found);
}
