/** A value that must not be shown: printing, logging or serialising it yields a placeholder. */

const PLACEHOLDER = "[secret]";

/**
 * Holds a password. It is redacted by its type and not by a pattern: a log field cannot be a `Secret`, and whatever
 * turns one into text gets `[secret]`.
 */
export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  /** The value itself, for the one place that needs it. */
  reveal(): string {
    return this.#value;
  }

  toString(): string {
    return PLACEHOLDER;
  }

  toJSON(): string {
    return PLACEHOLDER;
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return PLACEHOLDER;
  }
}
