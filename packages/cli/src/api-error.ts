/** A failed request, as OpenAI's API answers one. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly details: {
      readonly message: string;
      readonly code: string;
      /** The field of the request that is wrong. */
      readonly param?: string;
      readonly headers?: Readonly<Record<string, string>>;
    },
  ) {
    super(details.message);
  }

  /** The answer's body. */
  toJSON() {
    const { message, code, param = null } = this.details;
    return { error: { message, type: this.status < 500 ? "invalid_request_error" : "server_error", param, code } };
  }
}

/** What is wrong with a field of the request. */
export const invalid = (param: string, message: string): ApiError =>
  new ApiError(400, { message, param, code: "invalid_value" });
