export { exportStage, exportStages, type ExportStage, type ExportStageOptions } from "./pipeline/export-stage.js";
