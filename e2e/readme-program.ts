/** The complete program of a package's README and the lines that it says it prints. */
export interface ReadmeProgram {
  readonly source: string;
  readonly expectedLines: readonly string[];
}

/**
 * Reads the first `ts` or `js` block of a README.
 *
 * Each comment `// => text` is one line of the program's output, in the order of the source.
 * Throws where there is no such block or where it shows no output.
 *
 * @example
 * readmeProgram("```ts\nconsole.log(1 + 1); // => 2\n```").expectedLines; // ["2"]
 */
export function readmeProgram(markdown: string): ReadmeProgram {
  const source = /^```(?:ts|js)\n(.*?)^```$/ms.exec(markdown)?.[1];
  if (source === undefined) throw new Error('The README has no block that starts with "```ts" or "```js".');
  const expectedLines = [...source.matchAll(/\/\/ => ?(.*)$/gm)].map((match) => match[1] ?? "");
  if (expectedLines.length === 0) throw new Error('The program of the README shows no output: add "// => ..." lines.');
  return { source, expectedLines };
}
