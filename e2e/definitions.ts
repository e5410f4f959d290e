import { join } from "node:path";
import ts from "typescript";

/** What tsserver maps a definition by, which TypeScript's declarations leave out. */
interface WithSourceMapper {
  getSourceMapper(): {
    tryGetSourcePosition(place: { fileName: string; pos: number }): { fileName: string; pos: number } | undefined;
  };
}

/**
 * The text at which an editor arrives by "go to definition" from the import of each name: "FILE: NAME".
 * `folder` is the one in whose node_modules the entry's package lies.
 */
export function definitions(folder: string, entry: string, names: readonly string[]): string[] {
  const file = join(folder, "editor.mts");
  const text = `import type { ${names.join(", ")} } from "${entry}";`;
  const service = ts.createLanguageService({
    getCompilationSettings: () => ({ module: ts.ModuleKind.NodeNext, types: [] }),
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
  let position = "import type { ".length;
  const found = names.map((name) => {
    const [definition] = service.getDefinitionAtPosition(file, position) ?? [];
    position += `${name}, `.length;
    if (definition === undefined) return `nowhere: ${name}`;
    const declared = { fileName: definition.fileName, pos: definition.textSpan.start };
    const { fileName, pos } = mapper.tryGetSourcePosition(declared) ?? declared;
    return `${fileName}: ${ts.sys.readFile(fileName)?.slice(pos, pos + name.length)}`;
  });
  service.dispose();
  return found;
}
