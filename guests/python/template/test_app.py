import unittest

import ron
from app import Greeter
from ron.testing import Host


class Test(unittest.TestCase):
    def test_greets(self) -> None:
        with Host(Greeter) as host:
            self.assertEqual(host.request("{{name}}.greet", "Ada"), b"Hello, Ada!")
            self.assertEqual(host.metric("greetings_total"), 1)

    def test_greets_as_configured(self) -> None:
        with Host(Greeter, config={"greeting": "Moin"}) as host:
            self.assertEqual(host.request("{{name}}.greet", "Ada"), b"Moin, Ada!")

    def test_rejects_nobody(self) -> None:
        with Host(Greeter) as host, self.assertRaises(ron.Reject):
            host.request("{{name}}.greet")


if __name__ == "__main__":
    unittest.main()
