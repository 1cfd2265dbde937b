import { host } from "./host.js";

export function get() {
  const { service, generation, replica } = host().identity.get();
  return { service, generation: BigInt(generation), replica };
}
