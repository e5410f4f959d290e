export { referenceOps } from "./reference/ops.js";
export { fromHost, toHost, type ReferenceTensor } from "./reference/tensor.js";
