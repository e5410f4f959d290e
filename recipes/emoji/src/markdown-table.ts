/** A Markdown table, a line for each row. */
export function markdownTable(
  header: readonly string[],
  rows: readonly (readonly string[])[],
  rule: readonly string[] = header.map(() => "---"),
): string {
  return [header, rule, ...rows].map((cells) => `| ${cells.join(" | ")} |\n`).join("");
}
