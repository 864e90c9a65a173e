/** Signals of the process: the first INT or TERM asks for an orderly end, the second ends it at once. */

/** Registered handlers. */
export interface SignalHandlers {
  /** Removes them; the signals act as the system has it again. */
  close(): void;
}

/**
 * Listens for signals.
 *
 * After the first INT or TERM the handlers of both are gone, so that the next one ends the process by the system's
 * default action (and exit status 128+n); the journal repairs the rest on the next start.
 *
 * @param onEnd called once, with the signal's name
 * @param onHangup called for each HUP; without it HUP ends like the others, as when a terminal is closed
 */
export function handleSignals(onEnd: (signal: string) => void, onHangup?: () => void): SignalHandlers {
  const end = (signal: NodeJS.Signals): void => {
    close();
    onEnd(signal);
  };
  const hangup = onHangup ?? end;
  const close = (): void => {
    process.off("SIGINT", end);
    process.off("SIGTERM", end);
  };
  process.on("SIGINT", end);
  process.on("SIGTERM", end);
  process.on("SIGHUP", hangup);
  return {
    close: () => {
      close();
      process.off("SIGHUP", hangup);
    },
  };
}
