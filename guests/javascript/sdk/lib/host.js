// The one place through which the rest of the SDK reaches the host, so that it is the
// same in a component, where the host is imported, and in a unit test, where it is faked.

let current;

/// Has `host` answer from now on: the contract's interfaces by their names.
export function install(host) {
  current = host;
}

/// Whether there is a host to call. Not while a component is built: the module is
/// evaluated then, and what comes of that is what each instance begins with.
export const present = () => current !== undefined;

export function host() {
  if (current === undefined) {
    throw new Error(
      "there is no host to call while the module is loaded, which the build does: call it from start() on",
    );
  }
  return current;
}
