import { readCommandLine } from "./command-line.js";
import { inspectFile, inspectFolder, type InspectedComponent } from "./inspect-folder.js";
import type { Terminal } from "./terminal.js";

export const inspectUsage = `sdxs inspect MODEL [--json]

Lists components with their parameters, the element types and bytes in which these are stored, and the multiply-adds of one
evaluation for one picture of the size that the model was trained on. Weights are not read. MODEL is the folder of a pipeline
or of one model, or a safetensors file.

  --json                one line of JSON, with configurations`;

export async function inspect(args: readonly string[], terminal: Terminal): Promise<void> {
  const { values, operands } = readCommandLine("inspect", args, ["MODEL"], {
    json: { type: "boolean", default: false },
  });
  const path = operands[0]!;
  const isFile = path.endsWith(".safetensors");
  const components = isFile ? [{ ...(await inspectFile(path)), name: path }] : await inspectFolder(path);
  if (values.json) {
    terminal.out(JSON.stringify(components));
    return;
  }
  const rows = components.map((component) => [component.name, ...cells(component)]);
  for (const line of aligned([["component", "class", "parameters", "stored", "multiply-adds"], ...rows])) {
    terminal.out(line);
  }
}

function cells(component: Partial<InspectedComponent>): string[] {
  const { className = "-", parameters, bytes = 0, dtypes = {}, multiplyAdds } = component;
  const stored = parameters === undefined ? "-" : `${Object.keys(dtypes).join("+")}, ${short(bytes)}B`;
  return [className, shortOr(parameters), stored, shortOr(multiplyAdds)];
}

const shortOr = (value: number | undefined): string => (value === undefined ? "-" : short(value));

/** Three digits and a decimal prefix: 4.58 M. */
function short(value: number): string {
  const [factor, prefix] = value >= 1e9 ? [1e9, "G"] : value >= 1e6 ? [1e6, "M"] : value >= 1e3 ? [1e3, "k"] : [1, ""];
  return `${Number((value / factor).toPrecision(3))} ${prefix}`.trimEnd();
}

/** Columns of equal width. */
function aligned(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("  ")
      .trimEnd(),
  );
}
