import { adamW, type AdamWOptions, type AdamWState } from "../adamw.js";
import { InvalidArgumentError, ParameterError, SdxsError, ShapeError } from "../errors.js";
import { sameShape, show } from "../graph/shapes.js";
import { HostTensor } from "../host-tensor.js";
import type { Ops, TensorMap } from "../ops.js";
import type { Trainable } from "../program.js";
import { mapTensors, prefixed, select } from "../scope.js";
import type { Tensor, TensorFlow } from "./lazy.js";

interface Device {
  readonly tf: TensorFlow;
  readonly ops: Ops<Tensor>;
  readonly upload: (tensor: HostTensor) => Tensor;
  readonly download: (tensor: Tensor) => Promise<HostTensor>;
}

/** Parameters in training: AdamW by tfjs operations, new tensors for old at each step. */
export function tfjsTrainable(
  device: Device,
  initial: TensorMap<HostTensor>,
  options: AdamWOptions,
): Trainable<Tensor> {
  const { tf, ops, upload, download } = device;
  const optimizer = adamW(options);
  const params: Record<string, Tensor> = mapTensors(initial, upload);
  const averaged: Record<string, Tensor> = {};
  let moments: Pick<AdamWState<Tensor>, "m" | "v">;
  let accumulated: TensorMap<Tensor> | undefined;
  let count = 0;
  let steps = 0;
  let disposed = false;

  // The records that were handed out stay the same objects; what they hold changes.
  const adopt = (next: TensorMap<Tensor>, state: AdamWState<Tensor>): void => {
    Object.assign(params, next);
    if (state.averaged) Object.assign(averaged, state.averaged);
    moments = { m: state.m, v: state.v };
  };
  const live = (): Tensor[] => [params, moments.m, moments.v, averaged].flatMap((record) => Object.values(record));
  const drop = (): void => {
    if (accumulated) tf.dispose(Object.values(accumulated));
    accumulated = undefined;
    count = 0;
  };
  const requireLive = (): void => {
    if (disposed) throw new SdxsError("DISPOSED", "These parameters were disposed of. Make a new trainable.");
  };
  adopt(
    params,
    tf.tidy(() => optimizer.init(ops, params) as AdamWState<Tensor> & Record<string, TensorMap<Tensor>>),
  );

  return {
    params,
    averaged: optimizer.options.emaDecay === undefined ? undefined : averaged,
    get steps() {
      return steps;
    },

    accumulate(gradients) {
      requireLive();
      for (const [name, param] of Object.entries(params)) {
        const gradient = gradients[name];
        if (gradient === undefined)
          throw new ParameterError("MISSING_PARAMETER", `accumulate: there is no gradient for "${name}".`);
        if (!sameShape(gradient.shape, param.shape)) {
          throw new ShapeError(
            `accumulate: the gradient of "${name}" must have shape ${show(param.shape)}, got ${show(gradient.shape)}.`,
          );
        }
      }
      const extra = Object.keys(gradients).find((name) => !(name in params));
      if (extra !== undefined)
        throw new ParameterError("UNEXPECTED_PARAMETER", `accumulate: "${extra}" is not a parameter in training.`);
      const before = accumulated;
      accumulated = before ? mapTensors(before, (sum, name) => tf.add(sum, gradients[name] as Tensor)) : gradients;
      if (before) tf.dispose([...Object.values(before), ...Object.values(gradients)]);
      count += 1;
    },

    discard: drop,

    async step({ learningRate }) {
      requireLive();
      const gradients = accumulated;
      if (!gradients) throw new InvalidArgumentError("step: no gradients were accumulated since the last step.");
      const { next, state, gradientNorm } = tf.tidy(() => {
        const mean = count === 1 ? gradients : mapTensors(gradients, (sum) => tf.div(sum, count));
        const result = optimizer.update(ops, {
          params,
          gradients: mean,
          state: { ...moments, averaged: optimizer.options.emaDecay === undefined ? undefined : averaged },
          learningRate,
          step: steps + 1,
        });
        return { next: result.params, state: { ...result.state }, gradientNorm: result.gradientNorm };
      });
      const norm = (await download(gradientNorm)).item();
      tf.dispose(gradientNorm);
      drop();
      const finite = Number.isFinite(norm);
      if (finite) {
        tf.dispose(live());
        adopt(next, state);
        steps += 1;
      } else {
        tf.dispose([next, state.m, state.v, state.averaged ?? {}].flatMap((record) => Object.values(record)));
      }
      return { gradientNorm: norm, finite };
    },

    async state() {
      requireLive();
      const tensors = {
        ...prefixed(params, "params."),
        ...prefixed(moments.m, "m."),
        ...prefixed(moments.v, "v."),
        ...prefixed(averaged, "averaged."),
      };
      const result: Record<string, HostTensor> = {};
      for (const [name, tensor] of Object.entries(tensors)) result[name] = await download(tensor);
      return { ...result, steps: new HostTensor([], Int32Array.of(steps)) };
    },

    restore(saved) {
      requireLive();
      const read = (prefix: string): TensorMap<HostTensor> => {
        const found = select(saved, prefix);
        return mapTensors(params, (param, name) => {
          const tensor = found[name];
          if (tensor === undefined)
            throw new ParameterError("MISSING_PARAMETER", `restore: the state lacks "${prefix}${name}".`);
          if (!sameShape(tensor.shape, param.shape)) {
            throw new ParameterError(
              "SHAPE_MISMATCH",
              `restore: "${prefix}${name}" must have shape ${show(param.shape)}, got ${show(tensor.shape)}.`,
            );
          }
          return tensor;
        });
      };
      const completed = saved["steps"];
      if (completed === undefined) throw new ParameterError("MISSING_PARAMETER", `restore: the state lacks "steps".`);
      // Everything is checked before anything is replaced.
      const [p, m, v] = [read("params."), read("m."), read("v.")];
      const a = optimizer.options.emaDecay === undefined ? undefined : read("averaged.");
      drop();
      tf.dispose(live());
      adopt(mapTensors(p, upload), {
        m: mapTensors(m, upload),
        v: mapTensors(v, upload),
        averaged: a && mapTensors(a, upload),
      });
      steps = completed.item();
    },

    dispose() {
      if (disposed) return;
      drop();
      tf.dispose(live());
      disposed = true;
    },
  };
}
