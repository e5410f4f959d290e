export { exportStage, exportStages, type ExportStage, type ExportStageOptions } from "./export-stage.js";
