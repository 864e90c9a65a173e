/** What a client must show to log in: a password, a certificate, both, or either. */

/** The words of `--auth`. */
export const AUTH_MODES = ["password", "cert", "both", "any"] as const;

/** One of {@link AUTH_MODES}. */
export type AuthMode = (typeof AUTH_MODES)[number];

/** What a client has proved. */
export interface Proofs {
  readonly password: boolean;
  readonly certificate: boolean;
}

/** Whether a certificate is of any use. */
export function takesCertificate(mode: AuthMode): boolean {
  return mode !== "password";
}

/** Whether nobody logs in without a password. */
export function needsPassword(mode: AuthMode): boolean {
  return mode === "password" || mode === "both";
}

/** What is missing, for the client to read; null when the proofs are enough. */
export function missingProof(mode: AuthMode, proofs: Proofs): string | null {
  const needsCertificate = mode === "cert" || mode === "both";
  if (needsCertificate && !proofs.certificate)
    return mode === "both" ? "a certificate is needed besides the password" : "a certificate is needed";
  if (needsPassword(mode) && !proofs.password)
    return mode === "both" ? "a password is needed besides the certificate" : "a password is needed";
  return null;
}
