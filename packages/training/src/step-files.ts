/** "step-000000100.png": files of one folder sort by step. */
export function stepFileName(step: number, extension: string): string {
  return `step-${String(step).padStart(9, "0")}.${extension}`;
}

/** Names among these that `stepFileName` gives, highest step first. */
export function stepFiles(names: readonly string[], extension: string): string[] {
  const stepOf = (name: string): number => Number(/^step-(\d{9,})\./.exec(name)?.[1]);
  return names.filter((name) => name === stepFileName(stepOf(name), extension)).sort((a, b) => stepOf(b) - stepOf(a));
}
