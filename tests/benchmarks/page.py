def write_page(root):
    pass
