/** Machine-readable reasons an sdxs function can fail with. Stable: compare `error.code`, not the class. */
export type ErrorCode =
  | "SHAPE_MISMATCH"
  | "DTYPE_MISMATCH"
  | "INVALID_ARGUMENT"
  | "MISSING_PARAMETER"
  | "UNEXPECTED_PARAMETER"
  | "MALFORMED_FILE"
  | "MISSING_FILE"
  | "FILE_FAILURE"
  | "ACCESS_DENIED"
  | "MISSING_PACKAGE"
  | "UNSUPPORTED_CONFIG"
  | "UNSUPPORTED_OPERATION"
  | "BACKEND_FAILURE"
  | "DEVICE_LOST"
  | "NON_FINITE"
  | "DISPOSED"
  | "ABORTED"
  | "UNKNOWN_WORD";

/**
 * The base of every error that sdxs throws on purpose.
 *
 * `code` is stable and survives bundling and ESM/CJS duplication, where `instanceof` does not.
 * The message says what was expected, what came, and what to do.
 */
export class SdxsError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** A tensor's shape is not what the function needs. */
export class ShapeError extends SdxsError {
  constructor(message: string, options?: ErrorOptions) {
    super("SHAPE_MISMATCH", message, options);
  }
}

/** An argument lies outside what the function accepts. */
export class InvalidArgumentError extends SdxsError {
  constructor(message: string, options?: ErrorOptions) {
    super("INVALID_ARGUMENT", message, options);
  }
}

/** A file is truncated, hostile or not of the format its name promises. */
export class MalformedFileError extends SdxsError {
  constructor(message: string, options?: ErrorOptions) {
    super("MALFORMED_FILE", message, options);
  }
}

/** A model configuration asks for something that is not implemented. */
export class UnsupportedConfigError extends SdxsError {
  constructor(message: string, options?: ErrorOptions) {
    super("UNSUPPORTED_CONFIG", message, options);
  }
}

/** A model needs parameters that the given weights lack, or has others, or of other shapes or types. */
export class ParameterError extends SdxsError {
  constructor(
    code: "MISSING_PARAMETER" | "UNEXPECTED_PARAMETER" | "SHAPE_MISMATCH" | "DTYPE_MISMATCH",
    message: string,
    options?: ErrorOptions,
  ) {
    super(code, message, options);
  }
}

/** Advice for installing a package. */
const INSTALLING: Readonly<Record<string, string>> = {
  "onnxruntime-node":
    ". Where what it downloads afterwards (for CUDA alone) is blocked, set ONNXRUNTIME_NODE_INSTALL=skip before",
};

/** An optional package (onnxruntime-node, sharp, ...) is not installed. */
export class MissingPackageError extends SdxsError {
  constructor(packageName: string, neededFor: string, options?: ErrorOptions) {
    super(
      "MISSING_PACKAGE",
      `${neededFor} needs the package "${packageName}", which is not installed. ` +
        `Run: npm install ${packageName}${INSTALLING[packageName] ?? ""}`,
      options,
    );
  }
}
