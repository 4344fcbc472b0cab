"""Automatic differentiation is PyTorch's: Epochal hides none of it."""

import torch

x = torch.tensor([2.0], requires_grad=True)
a = torch.tensor([4.0], requires_grad=True)
y = x * a
y.backward()
print("dy/dx =", x.grad.item())  # a
print("dy/da =", a.grad.item())  # x

x = torch.tensor([2.0], requires_grad=True)
y = x**4
y.backward()
print("d(x^4)/dx =", x.grad.item())  # 4 x^3
