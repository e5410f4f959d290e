import { SdxsError } from "../core/errors.js";
import { GraphBuilder } from "../graph/builder.js";
import { compute, type ForwardOps } from "./compute.js";
import { inForwardOps } from "./in-forward-ops.js";
import { reachable, type Node } from "../graph/node.js";
import { HostTensor, sizeOf } from "../core/host-tensor.js";
import type { TensorMap } from "../core/ops.js";
import type { Backend, CompileSpec, CompiledProgram, Program } from "../core/program.js";
import { programTrainable } from "../optim/program-layout.js";
import { checkAgainstSpec } from "../core/run-checks.js";
import { mapTensors, prefixed } from "../core/parameters.js";

/** A library of arrays of type `T`, with their upload, download and disposal. */
export interface ForwardDevice<T> {
  /** For messages and tables. */
  readonly name: string;
  readonly ops: ForwardOps<T>;
  /** Distinguishes the library's tensors from host tensors. */
  isTensor(value: T | HostTensor): value is T;
  upload(tensor: HostTensor): T;
  download(tensor: T): Promise<HostTensor>;
  /** Frees a tensor. Does nothing where tensors are garbage-collected. */
  dispose(tensor: T): void;
}

/**
 * A backend from the forward operations of a library, the shortest way to an adapter: it adds gradients, checks, AdamW and
 * the disposal of intermediate results. A program is recorded once and differentiated as a graph; `run` then calls the
 * library operation by operation. `ForwardOps` states what holds for the arguments of operations.
 *
 * Gradients of convolutions are convolutions whose kernels are as large as the image: right with any library, fast with none.
 *
 * @example
 * const backend = forwardBackend({ name: "mine", ops, isTensor, upload, download, dispose });
 * const results = await runConformance(fromBackend(backend));
 */
export function forwardBackend<T>(device: ForwardDevice<T>): Backend<T> {
  const { name, ops } = device;
  const live = { tensors: 0, bytes: 0 };
  const count = (tensor: T, sign: 1 | -1): T => {
    live.tensors += sign;
    live.bytes += sign * 4 * sizeOf(ops.shape(tensor));
    return tensor;
  };
  const upload = (tensor: HostTensor): T => count(device.upload(tensor), 1);
  const download = (tensor: T): Promise<HostTensor> => device.download(tensor);
  const dispose = (tensor: T): void => device.dispose(count(tensor, -1));

  const compile = async <In extends string, Out extends string>(
    program: Program<In, Out>,
    spec: CompileSpec<In>,
  ): Promise<CompiledProgram<T, In, Out>> => {
    const started = performance.now();
    const results = record(program, spec);
    const order = reachable(Object.values(results));
    const lastUsed = lastUses(order, results);
    const constants = new Map<Node, T>();
    for (const node of order) {
      if (node.data !== undefined) constants.set(node, upload(new HostTensor(node.shape, node.data)));
    }
    const compileMs = performance.now() - started;
    let disposed = false;

    return {
      compileMs,
      upload: (params) => mapTensors(params, upload),
      async run(params, inputs) {
        if (disposed) throw new SdxsError("DISPOSED", "run: this program was disposed of. Compile it again.");
        checkAgainstSpec("parameter", spec.params ?? {}, mapTensors(params, described));
        checkAgainstSpec("input", spec.inputs, mapTensors(inputs, described));
        const given: TensorMap<T | HostTensor> = { ...prefixed(params, "param:"), ...prefixed(inputs, "input:") };
        const values = new Map(constants);
        /** Nodes whose values this run computed and has not returned. */
        const own = new Set<Node>();
        const free = (node: Node): void => {
          if (own.delete(node)) dispose(values.get(node)!);
        };
        try {
          for (const node of order) {
            if (node.data !== undefined) continue;
            const source = node.op === "input" ? given[node.attributes.name]! : undefined;
            if (source !== undefined && device.isTensor(source)) {
              values.set(node, source);
              continue;
            }
            const operands = node.inputs.map((input) => values.get(input)!);
            values.set(node, source === undefined ? count(compute(ops, node, operands), 1) : upload(source));
            own.add(node);
            lastUsed.get(node)?.forEach(free);
          }
        } catch (error) {
          own.forEach(free);
          throw error;
        }
        // A tensor that the caller or the program owns is returned as a copy.
        const handedOut = mapTensors(results, (node) => {
          const value = values.get(node)!;
          return own.has(node) ? value : count(ops.reshape(value, node.shape), 1);
        });
        return handedOut as Record<Out, T>;
      },
      async dispose() {
        if (!disposed) for (const tensor of constants.values()) dispose(tensor);
        disposed = true;
      },
    };
  };

  function described(tensor: T | HostTensor): { shape: readonly number[]; dtype: string } {
    return device.isTensor(tensor) ? { shape: ops.shape(tensor), dtype: ops.dtype(tensor) } : tensor;
  }

  return {
    name,
    upload,
    download,
    dispose,
    memory: () => ({ ...live }),
    compile,
    trainable: (initial, optimizer) =>
      programTrainable({ upload, download, dispose, compile, shapeOf: (x) => ops.shape(x) }, initial, optimizer),
  };
}

/** The program's results as nodes of a graph that computes forward. */
function record<In extends string, Out extends string>(
  program: Program<In, Out>,
  { params = {}, frozen = {}, inputs }: CompileSpec<In>,
): Record<string, Node> {
  const builder = new GraphBuilder();
  const weights = {
    ...builder.inputs(params, "param:"),
    ...mapTensors(frozen, ({ data, shape }) => builder.constant(data, shape)),
  };
  return inForwardOps(program(builder.ops, weights, builder.inputs(inputs, "input:")));
}

/** The nodes, other than results, that a node is the last to use. */
function lastUses(order: readonly Node[], results: Readonly<Record<string, Node>>): ReadonlyMap<Node, readonly Node[]> {
  const users = new Map<Node, Node>();
  for (const node of order) for (const input of node.inputs) users.set(input, node);
  for (const result of Object.values(results)) users.delete(result);
  const uses = new Map<Node, Node[]>();
  for (const [node, user] of users) uses.set(user, [...(uses.get(user) ?? []), node]);
  return uses;
}
