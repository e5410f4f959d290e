import { InvalidArgumentError, ParameterError, ShapeError } from "../core/errors.js";
import type { TensorMap } from "../core/ops.js";
import type { Program } from "../core/program.js";
import { prefixed } from "../core/parameters.js";

/**
 * A program that returns the outputs of `program` together with the gradient of its loss: "grad.NAME", of the
 * parameter's shape, for each name in `trainable`. All other parameters count as constants.
 *
 * The loss is the scalar output (shape []) named "loss".
 *
 * @throws ParameterError (MISSING_PARAMETER) where a trainable name is not among the parameters.
 * @throws InvalidArgumentError where `program` has no output "loss", or one whose name begins with "grad.".
 * @throws ShapeError where the loss is not a scalar.
 *
 * @example
 * const square: Program = (ops, { w }, { x }) => ({ loss: ops.mean(ops.square(ops.mul(w, x))) });
 * const step = await backend.compile(withGradients(square, ["w"]), { params, inputs });
 * const { loss, "grad.w": gradient } = await step.run(params, { x });
 */
export function withGradients(program: Program, trainable: readonly string[]): Program {
  return <T>(...[ops, params, inputs]: Parameters<typeof program<T>>) => {
    const learned: Record<string, T> = {};
    for (const name of trainable) {
      const tensor = params[name];
      if (tensor === undefined) {
        throw new ParameterError(
          "MISSING_PARAMETER",
          `withGradients: \`trainable\` names "${name}", which is not among its ${Object.keys(params).length} parameters. ` +
            `Pass it in \`params\`, or leave it out of \`trainable\`.`,
        );
      }
      learned[name] = tensor;
    }

    const lossAndOutputs = (varied: TensorMap<T>) => {
      const { loss, ...aux } = program(ops, { ...params, ...varied }, inputs);
      if (loss === undefined) {
        throw new InvalidArgumentError(
          `withGradients: the program must have a scalar output "loss", it has ${Object.keys(aux).join(", ") || "none"}.`,
        );
      }
      if (ops.shape(loss).length !== 0) {
        throw new ShapeError(
          `withGradients: the output "loss" must be a scalar (shape []), it has shape [${ops.shape(loss).join(", ")}]. ` +
            `Take its mean over the batch.`,
        );
      }
      const clash = Object.keys(aux).find((name) => name.startsWith("grad."));
      if (clash !== undefined) {
        throw new InvalidArgumentError(
          `withGradients: "grad." is for gradients; give the output "${clash}" another name.`,
        );
      }
      return { loss, aux };
    };

    const { loss, aux, grads } = ops.valueAndGrad(lossAndOutputs, learned);
    return { loss, ...aux, ...prefixed(grads, "grad.") };
  };
}
