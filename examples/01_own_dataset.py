"""Your own Dataset and DataLoader: Epochal takes them as they are."""

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import epochal


class MyDataset(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, data: Tensor, labels: Tensor) -> None:
        self.data = data
        self.labels = labels

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.data[index], self.labels[index]


data = torch.randn(100, 10)  # 100 examples with 10 features each
labels = torch.randint(0, 2, (100,))
loader = DataLoader(MyDataset(data, labels), batch_size=32, shuffle=True)

run = epochal.train(loader, model="mlp", epochs=3)
print(f"batches of {run.recipe.batch_size}; random labels cannot be learned: {run.test}")
