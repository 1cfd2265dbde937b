interface Order {
  items?: string[];
}

const total = (order: Order): number =>
  // Types and comments are gone in what the engine runs.
  order.items!.length;

total({});

export default { message() {} };
