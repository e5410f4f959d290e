export {
  patchDiscriminator,
  projectedDiscriminator,
  type PatchDiscriminatorOptions,
  type ProjectedDiscriminatorOptions,
} from "./discriminators/discriminators.js";
export {
  discriminatorObjective,
  type Discriminator,
  type DiscriminatorObjective,
  type DiscriminatorObjectiveOptions,
} from "./discriminators/objective.js";
