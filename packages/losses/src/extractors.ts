export {
  dinoV2Features,
  dinoV2Parameters,
  dinoV2Presets,
  parseDinoV2Config,
  type DinoV2Config,
} from "./extractors/dino-v2.js";
export { l2Pool } from "./extractors/l2-pool.js";
export { normalizedImages } from "./extractors/normalized-images.js";
export { sequentialFeatures, type CnnConvolution, type CnnLayer } from "./extractors/sequential-cnn.js";
export { vgg16Features, vgg16Parameters, type Vgg16Layer, type Vgg16Options } from "./extractors/vgg16.js";
