/** Which version of OMail VPN this is. */

import { version } from "../package.json";

/** The build puts the commit here (`--define OMAIL_COMMIT=…`); running from source it does not exist. */
declare const OMAIL_COMMIT: string;

/** Semantic version, from package.json. */
export const VERSION: string = version;

/** Abbreviated git commit that the executable was built from, or `source`. */
export const COMMIT: string = typeof OMAIL_COMMIT === "undefined" ? "source" : OMAIL_COMMIT;

/** What `--version` prints behind the program's name. */
export const VERSION_TEXT = `${VERSION} (${COMMIT})`;
