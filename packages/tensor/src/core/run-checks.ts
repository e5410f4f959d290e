import { SdxsError, ShapeError } from "./errors.js";
import { sameShape, show } from "./shapes.js";
import type { TensorMap } from "./ops.js";
import type { TensorSpec } from "./program.js";

/** Throws the errors that `CompiledProgram.run` documents where tensors do not fit the compiled shapes and types. */
export function checkAgainstSpec(
  kind: "parameter" | "input",
  specs: Readonly<Record<string, TensorSpec>>,
  given: TensorMap<{ readonly shape: readonly number[]; readonly dtype: string }>,
): void {
  for (const [name, { shape, dtype = "float32" }] of Object.entries(specs)) {
    const tensor = given[name];
    if (tensor === undefined) {
      throw new SdxsError(
        kind === "parameter" ? "MISSING_PARAMETER" : "INVALID_ARGUMENT",
        `run: the program was compiled with the ${kind} "${name}" of shape ${show(shape)}, which is missing.`,
      );
    }
    if (!sameShape(tensor.shape, shape)) {
      throw new ShapeError(
        `run: the ${kind} "${name}" must have shape ${show(shape)}, got ${show(tensor.shape)}. Compile again for other shapes.`,
      );
    }
    if (tensor.dtype !== dtype) {
      throw new SdxsError("DTYPE_MISMATCH", `run: the ${kind} "${name}" must be ${dtype}, got ${tensor.dtype}.`);
    }
  }
}
