import type * as tfjs from "@tensorflow/tfjs";

/** The namespace of `@tensorflow/tfjs`, which the consumer passes in. */
export type TensorFlow = typeof tfjs;
export type Tensor = tfjs.Tensor;

/** Static settings of an operation, in the form of tfjs kernel attributes. */
export type Attributes = Readonly<Record<string, number | boolean | readonly number[]>>;

/**
 * A differentiable operation of two tensors. Its gradients use differentiable operations only,
 * so they can be differentiated again.
 */
export interface PairOperation<A extends Attributes> {
  /** The name under which tfjs knows the operation's kernel and gradient. */
  readonly name: string;
  forward(tf: TensorFlow, a: Tensor, b: Tensor, attributes: A): Tensor;
  gradientA(tf: TensorFlow, dy: Tensor, a: Tensor, b: Tensor, attributes: A): Tensor;
  gradientB(tf: TensorFlow, dy: Tensor, a: Tensor, b: Tensor, attributes: A): Tensor;
}

/**
 * Runs an operation so that each of its two gradients is computed only where it is needed.
 *
 * `tf.customGrad` always computes all of them: a network with frozen weights would pay for weight
 * gradients that are not used. Registered kernels are differentiated lazily, so the operation is
 * registered with tfjs, once per backend.
 */
export function runPair<A extends Attributes>(
  tf: TensorFlow,
  operation: PairOperation<A>,
  a: Tensor,
  b: Tensor,
  attributes: A,
): Tensor {
  const backendName = tf.getBackend();
  if (!hasKernel(tf, operation.name)) {
    tf.registerKernel({
      kernelName: operation.name,
      backendName,
      kernelFunc: ({ inputs, attrs }) =>
        tf.tidy(() => operation.forward(tf, inputs["a"] as Tensor, inputs["b"] as Tensor, attrs as A)),
    });
  }
  // The declared type leaves out undefined.
  if ((tf.getGradient(operation.name) as tfjs.GradConfig | undefined) === undefined) {
    tf.registerGradient({
      kernelName: operation.name,
      inputsToSave: ["a", "b"],
      gradFunc: (dy, saved, attrs) => {
        const [savedA, savedB] = saved as [Tensor, Tensor];
        return {
          a: () => operation.gradientA(tf, dy as Tensor, savedA, savedB, attrs as A),
          b: () => operation.gradientB(tf, dy as Tensor, savedA, savedB, attrs as A),
        };
      },
    });
  }
  return tf.engine().runKernel(operation.name, { a, b }, attributes);
}

/** Whether the active backend has a kernel of this name. */
export function hasKernel(tf: TensorFlow, name: string): boolean {
  // The declared type leaves out undefined.
  return (tf.getKernel(name, tf.getBackend()) as tfjs.KernelConfig | undefined) !== undefined;
}

/** The result of `compute` as a constant: nothing is recorded for differentiation. */
export function detached(tf: TensorFlow, compute: () => Tensor): Tensor {
  return tf.customGrad(() => ({ value: compute(), gradFunc: () => [] }))();
}

/**
 * `f(x)` whose gradient needs the value of `f(x)`.
 *
 * Saved outputs of tfjs operations are cut off from what they were computed from, which makes second
 * derivatives wrong (exp, sigmoid, tanh, softmax). So where the backward pass is itself being recorded,
 * the value is computed again from the saved input.
 */
export function withOutputGradient(
  tf: TensorFlow,
  x: Tensor,
  kernel: (x: Tensor) => Tensor,
  gradient: (dy: Tensor, y: Tensor, x: Tensor) => Tensor,
): Tensor {
  const operation = (input: Tensor): Tensor =>
    tf.customGrad((...given) => {
      const [x, save] = given as [Tensor, tfjs.GradSaveFunc];
      const value = kernel(x);
      save([x, value]);
      return {
        value,
        gradFunc: (dy, saved) => {
          const [savedX, savedValue] = saved as [Tensor, Tensor];
          const recorded = tf.engine().state.gradientDepth > 0;
          return gradient(dy, recorded ? operation(savedX) : savedValue, savedX);
        },
      };
    })(input);
  return operation(x);
}
